"""Pictures with COCO annotation files."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cphloc.config.json_file import well_formed
from cphloc.data.case import AnnotationSource, Case, annotation_or_problem
from cphloc.data.dataset import OWN_ROOT, Dataset, find_root
from cphloc.data.io.outlines import Outline, coco_outline
from cphloc.data.io.text import read_text
from cphloc.errors import DataError, did_you_mean
from cphloc.structures.split import Split

_NEAR_PIXELS = 1.0
"""Largest difference of a bbox from the extent of its polygons that counts as rounding."""


class Coco(Dataset):
    """Pictures with boxes from ``annotations/instances_{train,val,test}.json`` (Lin 2014, COCO format).

    COCO boxes are ``[x, y, width, height]`` in pixel edges. Categories get the class numbers 1..K in the order of their
    ids in the training file; `file_numbers` gives the ids. Other files are matched by the names of their categories.
    Polygons and run lengths give masks. Regions marked ``iscrowd`` are ignored, as in the COCO metric. An image without
    annotations is negative.

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
        self.root = find_root("coco", root, self._file("train"), OWN_ROOT)
        self.images = self.root / images
        self.channels = tuple(channels)
        names = self._categories("train")
        self._category_ids = dict(enumerate(sorted(names), start=1))
        self.classes = {number: names[category] for number, category in self._category_ids.items()}

    @property
    def file_numbers(self) -> Mapping[int, int]:
        """Class number -> COCO category id."""
        return self._category_ids

    def _file(self, split: str) -> str:
        """Name of the annotation file of a split; the pattern is text, not a format string, which could do anything."""
        return self.annotations.replace("{split}", split)

    def _categories(self, split: str) -> dict[int, str]:
        """Category id -> name in the annotation file of a split."""
        path = self.root / self._file(split)
        try:
            categories = [(int(c["id"]), str(c["name"])) for c in self._read(split)["categories"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            msg = f"{path}: a category lacks an id or a name ({error!r}); give every category its own of both"
            raise DataError(msg) from error
        names = dict(categories)
        if len(names) < len(categories) or len(set(names.values())) < len(categories):
            msg = f"{path}: two categories share an id or a name; give every category its own of both"
            raise DataError(msg)
        return names

    def _numbers(self, split: str) -> dict[int, int]:
        """Category id in the annotation file of a split -> class number, matched by name."""
        numbers = {name: number for number, name in self.classes.items()}
        categories = self._categories(split)
        unknown = next((name for name in categories.values() if name not in numbers), None)
        if unknown is not None:
            hint = did_you_mean(unknown, numbers) or f"its categories are {', '.join(numbers)}"
            msg = f"{self.root / self._file(split)}: category '{unknown}' is not one of the training file; {hint}"
            raise DataError(msg)
        return {category: numbers[name] for category, name in categories.items()}

    def _cases(self, split: Split) -> list[Case]:
        with well_formed(self.root / self._file(split)):
            return self._listed(split)

    def _listed(self, split: Split) -> list[Case]:
        content, path = self._read(split), self.root / self._file(split)
        lacking = next((image for image in content["images"] if not {"id", "file_name"} <= set(image)), None)
        if lacking is not None:
            msg = f"{path}: an image lacks an id or a file_name, {lacking}; add it"
            raise DataError(msg)
        items: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for item in content["annotations"]:
            items[item.get("image_id")].append(item)
        for what, listed in (("images", content["images"]), ("annotations", content["annotations"])):
            number, times = next(iter(Counter(item.get("id") for item in listed).most_common(1)), (None, 0))
            if times > 1 and number is not None:
                msg = f"{path}: {times} {what} have the id {number}, as after merging files; number them anew"
                raise DataError(msg)
        strays = set(items) - {image["id"] for image in content["images"]}
        if strays:
            msg = f"{path}: annotates image id {min(strays, key=str)}, which `images` does not list; add or remove it"
            raise DataError(msg)
        numbers = self._numbers(split)
        return [self._case(image, items[image["id"]], numbers, path) for image in content["images"]]

    def _case(self, image: dict[str, Any], items: list[dict[str, Any]], numbers: Mapping[int, int], path: Path) -> Case:
        name = Path(image["file_name"]).with_suffix("").as_posix()
        annotation = annotation_or_problem(lambda: _annotation(image, items, numbers, path))
        return Case(name, str(image.get("patient", name)), (self.images / image["file_name"],), annotation)

    def _read(self, split: str) -> dict[str, Any]:
        path = self.root / self._file(split)
        try:
            content = json.loads(read_text(path))
            missing = [k for k in ("images", "annotations", "categories") if not isinstance(content[k], list)]
        except KeyError as error:
            missing = [error.args[0]]
        except (OSError, ValueError, TypeError, RecursionError) as error:
            msg = f"{path}: cannot be read as COCO JSON ({error}); check the `annotations` pattern"
            raise DataError(msg) from error
        if missing:
            msg = f"{path}: has no '{missing[0]}'; COCO needs images, annotations and categories"
            raise DataError(msg)
        return content


def _annotation(
    image: dict[str, Any], items: list[dict[str, Any]], numbers: Mapping[int, int], path: Path
) -> AnnotationSource:
    objects = [_object(item, numbers, path) for item in items]
    outlines = tuple(outline for _, _, outline in objects)
    size = (image.get("height") or 0, image.get("width") or 0)
    return AnnotationSource(
        boxes=tuple(box for _, box, _ in objects),
        box_classes=tuple(number for number, _, _ in objects),
        outlines=outlines if any(outlines) else None,
        size=(int(size[0]), int(size[1])) if all(size) else None,
    )


def _object(
    item: dict[str, Any], numbers: Mapping[int, int], path: Path
) -> tuple[int, tuple[float, ...], Outline | None]:
    """Class number, negative for a crowd, with the box and the outline of one annotation."""
    where = f"{path}: annotation {item.get('id')}"
    try:
        x, y, width, height = map(float, item["bbox"])
        number = numbers[item["category_id"]]
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{where} lacks a bbox [x, y, width, height] or a known category_id ({error!r}); ids must have one type"
        raise DataError(msg) from error
    if width < 0 or height < 0:
        msg = f"{where} has a negative size {width:g} x {height:g}; correct its bbox"
        raise DataError(msg)
    try:
        outline = coco_outline(item.get("segmentation"))
    except DataError as error:
        msg = f"{where}: {error}; correct it"
        raise DataError(msg) from error
    _check_order((x, y, width, height), outline, where)
    return -number if _is_crowd(item, where) else number, (y, x, y + height, x + width), outline


def _is_crowd(item: dict[str, Any], where: str) -> bool:
    stated = str(item.get("iscrowd") or 0).lower()
    if stated not in ("0", "1", "true", "false"):
        msg = f"{where} has '{item['iscrowd']}' for iscrowd; it must be 0 or 1"
        raise DataError(msg)
    return stated in ("1", "true")


def _check_order(bbox: tuple[float, ...], outline: Outline | None, where: str) -> None:
    """Raise an error for a bbox that holds two corners, by the polygons of the same object."""
    points = [value for polygon in outline.polygons for value in polygon] if outline is not None else []
    if not points:
        return
    low, high = (min(points[::2]), min(points[1::2])), (max(points[::2]), max(points[1::2]))
    if _near(bbox, (*low, *high)) and not _near(bbox, (*low, high[0] - low[0], high[1] - low[1])):
        msg = f"{where} has the bbox {list(bbox)}, two corners by its segmentation; COCO has [x, y, width, height]"
        raise DataError(msg)


def _near(box: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Return True for boxes that differ by at most `_NEAR_PIXELS`."""
    return all(abs(a - b) <= _NEAR_PIXELS for a, b in zip(box, other, strict=True))
