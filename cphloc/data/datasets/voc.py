"""Data sets in the layout of Pascal VOC."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from cphloc.data.case import AnnotationSource, Case, annotation_or_problem
from cphloc.data.dataset import OWN_ROOT, Dataset, find_root
from cphloc.data.io.formats import PICTURE_SUFFIXES
from cphloc.data.io.text import read_text
from cphloc.data.io.voc_xml import read_voc_boxes, read_voc_classes, read_voc_size
from cphloc.errors import DataError
from cphloc.structures.annotation import class_names
from cphloc.structures.split import Split


class Voc(Dataset):
    """Pictures in ``JPEGImages/``, boxes in ``Annotations/*.xml``, splits in ``ImageSets/Main/{train,val,test}.txt``.

    Objects marked ``difficult`` are ignored by losses and metrics, as in the VOC evaluation.

    Args:
        root: folder that contains these.
        classes: class number -> name, or names that are numbered from 1; ``None`` takes the names in the training
            annotations, in alphabetical order.
        channels: names of the image channels.

    Raises:
        NotFoundError: the folder does not exist.
        DataError: ``classes`` is ``None`` and no training annotation can be read.
        InputError: class names are not distinct.
    """

    dims = 2

    def __init__(
        self,
        root: str | None = None,
        classes: Sequence[str] | Mapping[int, str] | None = None,
        channels: Sequence[str] = ("red", "green", "blue"),
    ) -> None:
        self.root = find_root("voc", root, "ImageSets/Main", OWN_ROOT)
        self.classes = class_names(_annotated_classes(self.root) if classes is None else classes)
        self.channels = tuple(channels)

    def _cases(self, split: Split) -> list[Case]:
        return voc_cases(self.root, split, self.classes)


def voc_cases(root: Path, split: Split, classes: Mapping[int, str]) -> list[Case]:
    """List the cases of a split.

    Args:
        root: folder in the layout of VOC.
        split: ``train``, ``val`` or ``test``.
        classes: class number -> name in the annotation files.

    Raises:
        DataError: a list, picture or annotation is missing or damaged.
    """
    cases = []
    for name in _pictures(root, split):
        annotation = annotation_or_problem(partial(_annotation, root / "Annotations" / f"{name}.xml", classes))
        cases.append(Case(name, name, (_picture(root, name),), annotation))
    return cases


def _pictures(root: Path, split: Split) -> list[str]:
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        msg = f"{path}: the list of the {split} split is missing; write one picture name per line"
        raise DataError(msg)
    return [_listed(root, line.strip()) for line in read_text(path).splitlines() if line.strip()]


def _listed(root: Path, line: str) -> str:
    """Name of a picture in a line of a list, which may add a file ending, or -1, 0 or 1 as lists of one class do."""
    without = re.sub(r"\s+(-1|0|1)$", "", line)
    for name in (line, without):
        for candidate in (name, name.removesuffix(Path(name).suffix)):
            if (root / "Annotations" / f"{candidate}.xml").is_file():
                return candidate
    return without


def _annotated_classes(root: Path) -> list[str]:
    """Class names in the training annotations; a file that cannot be read is reported when its case is read."""
    names: set[str] = set()
    for name in _pictures(root, "train"):
        with suppress(DataError):
            names.update(read_voc_classes(root / "Annotations" / f"{name}.xml"))
    if not names:
        msg = f"{root / 'Annotations'}: no training annotation names an object; state the classes"
        raise DataError(msg)
    return sorted(names)


def _annotation(path: Path, classes: Mapping[int, str]) -> AnnotationSource:
    boxes, box_classes = read_voc_boxes(path, classes)
    return AnnotationSource(boxes=boxes, box_classes=box_classes, size=read_voc_size(path))


def _picture(root: Path, name: str) -> Path:
    endings = [ending for lower in PICTURE_SUFFIXES for ending in (lower, lower.upper())]
    candidates = [root / "JPEGImages" / f"{name}{ending}" for ending in endings]
    return next((c for c in candidates if c.exists()), candidates[0])
