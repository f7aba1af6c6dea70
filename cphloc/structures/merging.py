"""Classes of a head that each stand for several classes of the data set, such as ``tumour`` for three tumour types.

A head numbers its own classes from 1. So the numbers of masks, boxes and labels can differ within one model; `of_part`
gives the classes of each part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cphloc.structures.annotation import IGNORE, Annotation

Part = Literal["mask", "boxes", "labels"]
"""Part of a prediction that has classes."""


@dataclass(frozen=True)
class Merging:
    """Classes of a head, each with the classes of the data set that it stands for.

    Args:
        classes: number 1..K' of the head -> name.
        members: number 1..K' of the head -> number in the data set -> name.
    """

    classes: Mapping[int, str]
    members: Mapping[int, Mapping[int, str]]

    @property
    def dataset(self) -> dict[int, str]:
        """Classes of the data set, number 1..K -> name."""
        return dict(sorted((n, name) for members in self.members.values() for n, name in members.items()))

    @property
    def table(self) -> tuple[int, ...]:
        """Number in the head of each class 0..K of the data set; 0 is the background in both.

        >>> Merging({1: "organ", 2: "lesion"}, {1: {1: "liver", 3: "spleen"}, 2: {2: "cyst"}}).table
        (0, 1, 2, 1)
        """
        numbers = {member: number for number, members in self.members.items() for member in members}
        return (0, *(numbers[member] for member in sorted(numbers)))


class MergedClasses(dict[int, str]):
    """Classes of a data set, number 1..K -> name, with the parts whose head merges some of them.

    Args:
        classes: number 1..K -> name.
        merged: mergings by part.
    """

    def __init__(self, classes: Mapping[int, str], merged: Mapping[Part, Merging]) -> None:
        super().__init__(classes)
        self.merged = dict(merged)


def of_part(classes: Mapping[int, str], part: Part) -> Mapping[int, str]:
    """Return the classes of one part of a prediction, number -> name.

    >>> both = MergedClasses({1: "a", 2: "b"}, {"mask": Merging({1: "any"}, {1: {1: "a", 2: "b"}})})
    >>> of_part(both, "mask"), of_part(both, "labels"), of_part({1: "c"}, "mask")
    ({1: 'any'}, {1: 'a', 2: 'b'}, {1: 'c'})
    """
    merging = classes.merged.get(part) if isinstance(classes, MergedClasses) else None
    return classes if merging is None else merging.classes


def members_of_part(classes: Mapping[int, str], part: Part) -> dict[int, set[int]]:
    """Return the numbers in the data set of each class of a part.

    >>> both = MergedClasses({1: "a", 2: "b"}, {"mask": Merging({1: "any"}, {1: {1: "a", 2: "b"}})})
    >>> members_of_part(both, "mask"), members_of_part(both, "labels")
    ({1: {1, 2}}, {1: {1}, 2: {2}})
    """
    merging = classes.merged.get(part) if isinstance(classes, MergedClasses) else None
    return {n: {n} for n in classes} if merging is None else {n: set(of) for n, of in merging.members.items()}


def merged_annotation(annotation: Annotation, classes: Mapping[int, str]) -> Annotation:
    """Return an annotation in the numbers of the model's parts, in which classes may be merged.

    A merged class is known where all its classes were looked for, present where one of them is, and absent where all
    are absent. Boxes stay one per object.

    Args:
        annotation: annotation in the numbers of the data set.
        classes: classes of the model; plain classes change nothing.

    >>> both = MergedClasses({1: "a", 2: "b"}, {"mask": Merging({1: "any"}, {1: {1: "a", 2: "b"}})})
    >>> merged_annotation(Annotation(mask=np.array([[0, 1, 2, 255]], np.uint8)), both).mask.tolist()
    [[0, 1, 1, 255]]
    """
    merged = classes.merged if isinstance(classes, MergedClasses) else {}
    if "mask" in merged and annotation.mask is not None:
        annotation = _with_mask(annotation, annotation.mask, merged["mask"])
    if "boxes" in merged and annotation.boxes is not None and annotation.box_classes is not None:
        annotation = _with_boxes(annotation, annotation.boxes, annotation.box_classes, merged["boxes"])
    if "labels" in merged and annotation.label is not None:
        annotation = replace(annotation, label=_merged_label(annotation.label, _members(merged["labels"].table)))
    return annotation


def _with_mask(annotation: Annotation, mask: np.ndarray, merging: Merging) -> Annotation:
    known = _merged_known(annotation.mask_known, merging.table)
    lookup = np.zeros(256, np.uint8)
    lookup[: len(merging.table)] = merging.table
    lookup[IGNORE] = IGNORE
    if known is not None:
        lookup[: len(merging.table)] *= np.concatenate([[True], known])[lookup[: len(merging.table)]]
    return replace(annotation, mask=lookup[mask], mask_known=known)


def _with_boxes(annotation: Annotation, boxes: np.ndarray, numbers: np.ndarray, merging: Merging) -> Annotation:
    known = _merged_known(annotation.boxes_known, merging.table)
    new = np.sign(numbers) * np.asarray(merging.table, numbers.dtype)[np.abs(numbers)]
    kept = np.ones(len(new), bool) if known is None else known[np.abs(new) - 1]
    own = None if annotation.box_instances is None else annotation.box_instances[kept]
    return replace(annotation, boxes=boxes[kept], box_classes=new[kept], boxes_known=known, box_instances=own)


def _members(table: tuple[int, ...]) -> np.ndarray:
    """``(K', K)`` bool: which classes of the data set each class of the head stands for."""
    return np.asarray(table[1:]) == np.arange(1, max(table) + 1)[:, None]


def _merged_known(known: np.ndarray | None, table: tuple[int, ...]) -> np.ndarray | None:
    return None if known is None else np.asarray((known | ~_members(table)).all(axis=1))


def _merged_label(label: np.ndarray, members: np.ndarray) -> np.ndarray:
    present = ((label > 0) & members).any(axis=1)
    absent = ((label == 0) | ~members).all(axis=1)
    return np.where(present, 1, np.where(absent, 0, np.nan)).astype(np.float32)
