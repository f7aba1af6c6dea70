"""Pictures with COCO annotation files."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cphloc.data.case import AnnotationSource, Case, annotation_or_problem
from cphloc.data.dataset import Dataset, find_root
from cphloc.errors import DataError
from cphloc.structures.split import Split


class Coco(Dataset):
    """Pictures with boxes from ``annotations/instances_{train,val,test}.json`` (Lin 2014, COCO format).

    COCO boxes are ``[x, y, width, height]`` in pixel edges. Categories get the class numbers 1..K in the order of their
    ids; `file_numbers` gives the ids. Objects marked ``iscrowd`` are ignored, as in the COCO metric. An image
    without annotations is negative.

    Args:
        root: folder of the pictures and annotations.
        images: folder of the pictures, relative to ``root``.
        annotations: pattern of the annotation files, relative to ``root``.
        channels: names of the image channels.

    Raises:
        NotFoundError: the folder does not exist.
        DataError: the annotations of the training split cannot be read.
    """

    dims = 2

    def __init__(
        self,
        root: str | None = None,
        images: str = "images",
        annotations: str = "annotations/instances_{split}.json",
        channels: Sequence[str] = ("red", "green", "blue"),
    ) -> None:
        self.annotations = annotations
        self.root = find_root("coco", root, self._file("train"))
        self.images = self.root / images
        self.channels = tuple(channels)
        names = self._category_names()
        self._category_ids = dict(enumerate(sorted(names), start=1))
        self.classes = {number: names[category] for number, category in self._category_ids.items()}
        self._numbers = {category: number for number, category in self._category_ids.items()}

    @property
    def file_numbers(self) -> Mapping[int, int]:
        """Class number -> COCO category id."""
        return self._category_ids

    def _file(self, split: str) -> str:
        """Name of the annotation file of a split; the pattern is text, not a format string, which could do anything."""
        return self.annotations.replace("{split}", split)

    def _category_names(self) -> dict[int, str]:
        """Category id -> name, from the training annotations."""
        categories = [(int(c["id"]), str(c["name"])) for c in self._read("train")["categories"]]
        names = dict(categories)
        if len(names) < len(categories) or len(set(names.values())) < len(categories):
            path = self.root / self._file("train")
            msg = f"{path}: two categories share an id or a name; give every category its own of both"
            raise DataError(msg)
        return names

    def _cases(self, split: Split) -> list[Case]:
        content = self._read(split)
        path = self.root / self._file(split)
        items: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for item in content["annotations"]:
            if not item.get("iscrowd"):
                items[item.get("image_id")].append(item)
        strays = set(items) - {image["id"] for image in content["images"]}
        if strays:
            msg = f"{path}: annotates image id {min(strays, key=str)}, which `images` does not list; add or remove it"
            raise DataError(msg)
        return [self._case(image, items[image["id"]], path) for image in content["images"]]

    def _case(self, image: dict[str, Any], items: list[dict[str, Any]], path: Path) -> Case:
        name = Path(image["file_name"]).with_suffix("").as_posix()
        annotation = annotation_or_problem(lambda: self._annotation(items, path))
        return Case(name, str(image.get("patient", name)), (self.images / image["file_name"],), annotation)

    def _annotation(self, items: list[dict[str, Any]], path: Path) -> AnnotationSource:
        boxes = [self._box(item, path) for item in items]
        return AnnotationSource(boxes=tuple(box for _, box in boxes), box_classes=tuple(number for number, _ in boxes))

    def _box(self, item: dict[str, Any], path: Path) -> tuple[int, tuple[float, ...]]:
        try:
            x, y, width, height = map(float, item["bbox"])
            number = self._numbers[item["category_id"]]
        except (KeyError, TypeError, ValueError) as error:
            msg = f"{path}: annotation {item.get('id')} lacks a bbox [x, y, width, height] or a known category_id"
            raise DataError(msg) from error
        if width < 0 or height < 0:
            msg = f"{path}: annotation {item.get('id')} has a negative size {width:g} x {height:g}; correct its bbox"
            raise DataError(msg)
        return number, (y, x, y + height, x + width)

    def _read(self, split: str) -> dict[str, Any]:
        path = self.root / self._file(split)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            missing = [k for k in ("images", "annotations", "categories") if k not in content]
        except (OSError, ValueError, TypeError) as error:
            msg = f"{path}: cannot be read as COCO JSON ({error}); check the `annotations` pattern"
            raise DataError(msg) from error
        if missing:
            msg = f"{path}: has no '{missing[0]}'; COCO needs images, annotations and categories"
            raise DataError(msg)
        return content
