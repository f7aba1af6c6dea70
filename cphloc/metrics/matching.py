"""Match detected boxes to reference boxes, in any number of dimensions.

Boxes are ``(n, 2 D)`` arrays of edge coordinates ``[lo..., hi...]`` in array-axis order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from cphloc.errors import InputError
from cphloc.metrics.box_overlap import box_iof, box_iou
from cphloc.structures.instances import ObjectMask

COCO_IOU_THRESHOLDS = tuple(k / 100 for k in range(50, 100, 5))
"""IoU thresholds 0.50, 0.55, ..., 0.95, over which COCO's mAP is averaged."""

MatchingRule = Literal["coco", "voc"]
"""How detections are matched to reference boxes.

``coco`` matches a detection to the unmatched reference box with the highest IoU. ``voc`` considers only the reference
box with the highest IoU and counts the detection as a false positive if that box is already matched.
"""


@dataclass(frozen=True)
class DetectionCase:
    """Detected boxes and reference boxes of one image.

    Args:
        boxes: ``(n, 2 D)`` detected boxes.
        scores: ``(n,)`` confidence of each detected box.
        classes: ``(n,)`` class number of each detected box.
        reference_boxes: ``(m, 2 D)`` annotated boxes; shape ``(0, 2 D)`` for an image without objects.
        reference_classes: ``(m,)`` class number of each reference box; a negative number marks a region to ignore, see
            `crowd`.
        ignored: ``(m,)`` bool, reference boxes to leave out; a detection that matches only such a box is neither a true
            nor a false positive. By default those with a negative class.

    Attributes:
        crowd: ``(m,)`` bool, regions in which objects are not annotated one by one (COCO's ``iscrowd``, VOC's
            ``difficult``, unknown parts of an image). Overlap with them is measured by `box_iof`, except by the rule
            ``voc``, which uses the IoU.

    Raises:
        InputError: the arrays of the detections, or those of the references, differ in length.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    reference_boxes: np.ndarray
    reference_classes: np.ndarray
    ignored: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    crowd: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        numbers = np.asarray(self.reference_classes)
        object.__setattr__(self, "crowd", numbers < 0)
        object.__setattr__(self, "reference_classes", np.abs(numbers))
        stated = np.asarray(self.ignored, bool) if len(self.ignored) else np.zeros(len(self.reference_boxes), bool)
        object.__setattr__(self, "ignored", stated | self.crowd if len(stated) == len(numbers) else stated)
        detected = len(self.boxes), len(self.scores), len(self.classes)
        reference = len(self.reference_boxes), len(self.reference_classes), len(self.ignored)
        if len(set(detected)) > 1 or len(set(reference)) > 1:
            msg = (
                f"boxes, scores and classes have lengths {detected}; reference_boxes, reference_classes and ignored "
                f"have lengths {reference}; the three of each must agree"
            )
            raise InputError(msg)

    def overlaps(self, detected: np.ndarray, reference: np.ndarray, rule: MatchingRule = "coco") -> np.ndarray:
        """Overlap ``(d, r)`` of some of the detections with some of the references, given as indices."""
        boxes, others = np.asarray(self.boxes)[detected], np.asarray(self.reference_boxes)[reference]
        overlap, crowd = box_iou(boxes, others), self.crowd[reference]
        if rule == "coco" and crowd.any():
            overlap[:, crowd] = box_iof(boxes, others[crowd])
        return overlap


@dataclass(frozen=True)
class InstanceCase(DetectionCase):
    """Objects of one image that are outlined: as `DetectionCase`, with masks in the place of boxes.

    `match` then compares masks, so that all metrics of boxes hold for masks too, such as COCO's mask AP.

    Args:
        boxes: mask of each detected object, ``(n, *S)`` bool or n `ObjectMask`; masks may overlap.
        reference_boxes: mask of each annotated object, ``(m, *S)`` bool or m `ObjectMask`.
    """

    boxes: np.ndarray | Sequence[ObjectMask]  # pyright: ignore[reportIncompatibleVariableOverride]  # masks for boxes
    reference_boxes: np.ndarray | Sequence[ObjectMask]  # pyright: ignore[reportIncompatibleVariableOverride]  # the same

    @cached_property
    def detected(self) -> Sequence[ObjectMask]:
        """Voxels of each detected object."""
        return _objects(self.boxes)

    @cached_property
    def reference(self) -> Sequence[ObjectMask]:
        """Voxels of each annotated object."""
        return _objects(self.reference_boxes)

    def common(self, detected: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Voxels ``(d, r)`` that detections and references, given as indices, have in common."""
        found, true = [self.detected[k] for k in detected], [self.reference[k] for k in reference]
        counts = np.zeros((len(found), len(true)))
        if not counts.size:
            return counts
        for row, column in zip(*np.nonzero(box_iou(_extents(found), _extents(true))), strict=True):
            counts[row, column] = found[row].common(true[column])
        return counts

    def overlaps(self, detected: np.ndarray, reference: np.ndarray, rule: MatchingRule = "coco") -> np.ndarray:
        """Overlap ``(d, r)`` of masks; with a crowd it is the part of the detection inside it."""
        common = self.common(detected, reference)
        sizes = np.array([self.detected[k].size for k in detected], float)[:, None]
        others = np.array([self.reference[k].size for k in reference], float)
        crowd = self.crowd[reference] & (rule == "coco")
        return common / np.maximum(np.where(crowd, sizes, sizes + others - common), 1)


def _objects(masks: np.ndarray | Sequence[ObjectMask]) -> Sequence[ObjectMask]:
    """Masks as objects; those of an array begin at the first voxel of the image."""
    if not isinstance(masks, np.ndarray):
        return masks
    return [ObjectMask((0,) * mask.ndim, mask.astype(bool)) for mask in masks]


def _extents(objects: Sequence[ObjectMask]) -> np.ndarray:
    """Boxes ``(n, 2 D)`` of the parts of the image in which objects are stored."""
    edges = [[part.start for part in each.where] + [part.stop for part in each.where] for each in objects]
    return np.array(edges, float)


@dataclass(frozen=True)
class Matches:
    """Detections of one class in all cases, matched to the reference boxes; result of `match`.

    Args:
        case: ``(n,)`` index of the case of each detection.
        scores: ``(n,)`` confidences, in descending order.
        hits: ``(thresholds, n)`` bool, whether the detection is a true positive at each IoU threshold.
        ignored: ``(thresholds, n)`` bool, whether it is neither a true nor a false positive.
        references: ``(cases,)`` number of reference boxes of the class, without the ignored ones.
        iou_thresholds: IoU thresholds of the rows of ``hits`` and ``ignored``.
    """

    case: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    references: np.ndarray
    iou_thresholds: tuple[float, ...]


def match(
    cases: Sequence[DetectionCase],
    label: int = 1,
    iou_thresholds: Sequence[float] = COCO_IOU_THRESHOLDS,
    rule: MatchingRule = "coco",
    max_detections: int = 100,
) -> Matches:
    """Match the detections of class ``label`` to the reference boxes of each case, in order of descending score.

    Args:
        cases: all images, including those without boxes.
        label: class number.
        iou_thresholds: smallest IoU of a match; the matching is repeated for each threshold.
        rule: ``coco`` or ``voc``, see `MatchingRule`.
        max_detections: number of highest-scored detections to keep per image.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])
    >>> match([case], iou_thresholds=[0.5, 0.8]).hits.tolist()
    [[True], [False]]
    """
    thresholds = np.asarray(iou_thresholds, float)
    matched = [_match_case(case, label, thresholds, rule, max_detections) for case in cases]
    scores = np.concatenate([np.zeros(0), *(m.scores for m in matched)])
    order = np.argsort(-scores, kind="stable")
    none = np.zeros((len(thresholds), 0), bool)
    return Matches(
        case=np.repeat(np.arange(len(cases)), [len(m.scores) for m in matched])[order],
        scores=scores[order],
        hits=np.concatenate([none, *(m.hits for m in matched)], axis=1)[:, order],
        ignored=np.concatenate([none, *(m.ignored for m in matched)], axis=1)[:, order],
        references=np.array([m.references for m in matched], int),
        iou_thresholds=tuple(map(float, thresholds)),
    )


class _CaseMatch(NamedTuple):
    scores: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    references: int


def _match_case(
    case: DetectionCase, label: int, thresholds: np.ndarray, rule: MatchingRule, max_detections: int
) -> _CaseMatch:
    detected, reference = np.asarray(case.classes) == label, np.asarray(case.reference_classes) == label
    skipped = np.asarray(case.ignored, bool)[reference]
    scores = np.asarray(case.scores, float)[detected]
    best_first = np.argsort(-scores, kind="stable")[:max_detections]
    hits, ignored = np.zeros((2, len(thresholds), len(best_first)), bool)
    if len(best_first) and reference.any():
        overlap = case.overlaps(np.flatnonzero(detected)[best_first], np.flatnonzero(reference), rule)
        hits, ignored = _true_positives(overlap, skipped, thresholds, rule)
    return _CaseMatch(scores[best_first], hits, ignored, int(np.count_nonzero(~skipped)))


def _true_positives(
    overlap: np.ndarray, skipped: np.ndarray, thresholds: np.ndarray, rule: MatchingRule
) -> tuple[np.ndarray, np.ndarray]:
    """True positives and ignored detections, both ``(thresholds, detections)``.

    Args:
        overlap: overlap ``(detections, m)`` with the reference boxes, by descending score.
        skipped: ``(m,)`` bool, reference boxes to ignore.
        thresholds: smallest overlap of a match.
        rule: ``coco`` ignores a detection that matches no other box; ``voc`` one that overlaps a box to ignore most.
    """
    hits, ignored = np.zeros((2, len(thresholds), len(overlap)), bool)
    free = np.ones((len(thresholds), overlap.shape[1]), bool)
    rows = np.arange(len(thresholds))
    counted = ~skipped | (rule == "voc")
    for k in np.flatnonzero(overlap.max(axis=1, initial=-1.0) >= thresholds.min()):
        candidates = np.where((free | (rule == "voc")) & counted, overlap[k], -1.0)
        best = candidates.argmax(axis=1)
        reached = candidates[rows, best] >= thresholds
        hits[:, k] = reached & free[rows, best] & ~skipped[best]
        free[rows[hits[:, k]], best[hits[:, k]]] = False
        ignored[:, k] = reached & skipped[best]
    if rule == "coco":
        ignored = ~hits & (overlap[:, skipped].max(axis=1, initial=-1.0) >= thresholds[:, None])
    return hits, ignored
