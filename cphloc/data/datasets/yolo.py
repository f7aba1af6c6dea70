"""Pictures with YOLO text files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from cphloc.data.case import AnnotationSource, Case, annotation_or_problem
from cphloc.data.dataset import OWN_ROOT, Dataset, find_root, hashed_split
from cphloc.data.io.formats import PICTURE_SUFFIXES
from cphloc.data.io.notice import notice
from cphloc.data.io.text import read_text
from cphloc.data.io.yolo_text import read_yolo_objects
from cphloc.errors import DataError
from cphloc.files import is_temporary
from cphloc.structures.annotation import class_names
from cphloc.structures.split import SPLITS, Split


class Yolo(Dataset):
    """Pictures in ``images/``, a text file for each in ``labels/``, classes and splits in ``data.yaml`` (Ultralytics).

    ``data.yaml`` states ``names`` (a list, or number: name) and, for ``train``, ``val`` and ``test``, a folder, a list
    of folders, or a text file that lists pictures. The annotation of ``images/.../a.jpg`` is ``labels/.../a.txt``:
    boxes, or polygons, which give masks. A picture without a text file, or with an empty one, has no object; where the
    folder of the text files does not exist, its pictures are not annotated.

    Without ``data.yaml``, ``classes.txt`` lists the names, as labelling tools write it; the splits are the folders
    ``images/train``, ``images/val`` and ``images/test``, or where these do not exist, a hash of the picture decides.

    Args:
        root: folder of ``data.yaml`` or ``classes.txt``.
        channels: names of the image channels.

    Raises:
        NotFoundError: the folder, or both ``data.yaml`` and ``classes.txt``, do not exist.
        DataError: ``data.yaml`` is damaged or states no names.
    """

    dims = 2

    def __init__(self, root: str | None = None, channels: Sequence[str] = ("red", "green", "blue")) -> None:
        listed = root is not None and not (Path(root) / "data.yaml").exists() and (Path(root) / "classes.txt").exists()
        self.root = find_root("yolo", root, "classes.txt" if listed else "data.yaml", OWN_ROOT)
        self.channels = tuple(channels)
        self._facts = _from_folders(self.root) if listed else _read(self.root / "data.yaml")
        names = self._facts["names"]
        pairs = list(names.items()) if isinstance(names, dict) else list(enumerate(names))
        self._indices = {number: int(index) for number, (index, _) in enumerate(pairs, start=1)}
        self.classes = class_names([str(name) for _, name in pairs])

    @property
    def file_numbers(self) -> dict[int, int]:
        """Class number -> class in the text files."""
        return self._indices

    def _cases(self, split: Split) -> list[Case]:
        stated = self._facts.get(split) or (self._facts.get("valid") if split == "val" else None)
        entries = stated if isinstance(stated, list) else [stated] if stated else []
        pictures = sorted({picture for entry in entries for picture in self._pictures(str(entry))})
        cases = [self._case(picture) for picture in pictures]
        return [c for c in cases if hashed_split(c.id, 0.15, 0.15) == split] if self._facts.get("hashed") else cases

    def _case(self, picture: Path) -> Case:
        relative = picture.relative_to(self.root) if picture.is_relative_to(self.root) else Path(picture.name)
        name = relative.with_suffix("").as_posix().replace("images/", "", 1)
        return Case(name, name, (picture,), annotation_or_problem(lambda: self._annotation(picture)))

    def _annotation(self, picture: Path) -> AnnotationSource:
        path = _label_file(picture)
        if not path.parent.is_dir():
            notice(path.parent, "does not exist: its pictures are not annotated", every=True)
            return AnnotationSource()
        if not path.is_file():
            notice(path, "does not exist: its picture has no object")
            return AnnotationSource(boxes=())
        numbers = {index: number for number, index in self._indices.items()}
        count, values = (self._facts.get("kpt_shape") or (0, 0))[:2]
        boxes, classes, outlines = read_yolo_objects(path, numbers, int(count) * int(values))
        return AnnotationSource(boxes=boxes, box_classes=classes, outlines=outlines, relative=True)

    def _pictures(self, entry: str) -> Iterator[Path]:
        """Pictures in a folder, or listed in a text file."""
        place = self._place(entry)
        if place.is_dir():
            pictures = (p for p in place.rglob("*") if p.name.lower().endswith(PICTURE_SUFFIXES))
            yield from (p for p in pictures if not is_temporary(p, place))
            return
        for line in filter(None, map(str.strip, read_text(place).splitlines())):
            yield place.parent / line

    def _place(self, entry: str) -> Path:
        """Folder or list that ``data.yaml`` names, which is often moved together with its pictures."""
        base = Path(str(self._facts.get("path") or "."))
        inside = Path(*[part for part in Path(entry).parts if part not in ("..", "/")])
        candidates = (self.root / base / entry, self.root / entry, self.root / inside)
        found = next((place for place in candidates if place.exists()), None)
        if found is None:
            msg = f"{self.root / 'data.yaml'}: '{entry}' does not exist in {self.root}; correct its path"
            raise DataError(msg)
        return found


def _label_file(picture: Path) -> Path:
    """Text file of a picture: the last folder ``images`` of its path becomes ``labels``."""
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _from_folders(root: Path) -> dict[str, Any]:
    """What ``data.yaml`` would state, from the folders and ``classes.txt``."""
    names = [line.strip() for line in read_text(root / "classes.txt").splitlines() if line.strip()]
    if not names:
        msg = f"{root / 'classes.txt'}: is empty; list the names of the classes, one per line"
        raise DataError(msg)
    folders = {split: f"images/{split}" for split in SPLITS if (root / "images" / split).is_dir()}
    return {"names": names, **(folders or dict.fromkeys(SPLITS, "images")), "hashed": not folders}


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = yaml.load(read_text(path), Loader=yaml.BaseLoader)  # names such as `no` stay text
    except (yaml.YAMLError, ValueError) as error:
        msg = f"{path}: cannot be read as YAML ({' '.join(str(error).split())}); correct it"
        raise DataError(msg) from error
    names = facts.get("names") if isinstance(facts, dict) else None
    if not isinstance(names, (list, dict)) or not names:
        msg = f"{path}: states no names; list the names of the classes under `names:`"
        raise DataError(msg)
    if isinstance(names, dict) and not all(str(index).isdigit() for index in names):
        msg = f"{path}: names must be numbered, as in `names: {{0: cell}}`, got {list(names)}"
        raise DataError(msg)
    if "nc" in facts and facts["nc"] != str(len(names)):
        msg = f"{path}: nc is {facts['nc']} but it has {len(names)} names; correct one of the two"
        raise DataError(msg)
    return facts
