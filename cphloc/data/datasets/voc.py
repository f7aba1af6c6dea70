"""Any data set in the layout of Pascal VOC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from cphloc.annotation import class_names
from cphloc.data.case import Case, Marks, marks_or_problem
from cphloc.data.dataset import Dataset, Split, find_root
from cphloc.data.voc_xml import read_voc_boxes
from cphloc.errors import DataError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


class Voc(Dataset):
    """Pictures in ``JPEGImages/``, boxes in ``Annotations/*.xml``, splits in ``ImageSets/Main/{train,val,test}.txt``.

    Args:
        root: folder that holds these.
        classes: names of the classes, numbered from 1.
        channels: names of the pictures' channels.

    Raises:
        NotFoundError: the folder does not exist.
        InputError: classes are not distinct.
    """

    dims = 2

    def __init__(
        self,
        root: str | None = None,
        classes: Sequence[str] | Mapping[int, str] = ("object",),
        channels: Sequence[str] = ("red", "green", "blue"),
    ) -> None:
        self.root = find_root("voc", root, "ImageSets/Main")
        self.classes = class_names(classes)
        self.channels = tuple(channels)

    def _cases(self, split: Split) -> list[Case]:
        return voc_cases(self.root, split, self.classes)


def voc_cases(root: Path, split: Split, classes: Mapping[int, str]) -> list[Case]:
    """Cases of a split of the VOC folder ``root``.

    Raises:
        DataError: a list, picture or annotation is missing or damaged.
    """
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        msg = f"{path}: the list of the {split} split is missing; write one picture name per line"
        raise DataError(msg)
    names = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    cases = []
    for name in names:
        marks = marks_or_problem(partial(_marks, root / "Annotations" / f"{name}.xml", classes))
        cases.append(Case(name, name, (_picture(root, name),), marks))
    return cases


def _marks(path: Path, classes: Mapping[int, str]) -> Marks:
    boxes, box_classes = read_voc_boxes(path, classes)
    return Marks(boxes=boxes, box_classes=box_classes)


def _picture(root: Path, name: str) -> Path:
    candidates = [root / "JPEGImages" / f"{name}{ending}" for ending in PICTURES]
    return next((c for c in candidates if c.exists()), candidates[0])
