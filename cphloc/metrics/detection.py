"""Average precision and recall of boxes in any number of dimensions.

Boxes are ``(n, 2 D)`` arrays of edge coordinates ``[lo..., hi...]`` in array-axis order. `match` assigns detections to
reference boxes once, and every score is computed from its result. ``weights`` ``(cases,)`` is the number of times that
each case counts, as drawn by `cphloc.metrics.bootstrap.weighted_bootstrap`. The same misplacement lowers the IoU more
in 3-D than in 2-D, so AP at IoU 0.1 is commonly reported in 3-D as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from cphloc.errors import InputError
from cphloc.metrics.box_overlap import box_iof, box_iou

COCO_IOU_THRESHOLDS = tuple(k / 100 for k in range(50, 100, 5))
"""IoU thresholds 0.50, 0.55, ..., 0.95, over which COCO's mAP is averaged."""

COCO_RECALLS = np.linspace(0, 1, 101)
"""The 101 recalls 0, 0.01, ..., 1 over which COCO averages precision."""

MatchingRule = Literal["coco", "voc"]
"""How detections are matched to reference boxes.

``coco`` matches a detection to the unmatched reference box with the highest IoU. ``voc`` considers only the reference
box with the highest IoU and counts the detection as a false positive if that box is already matched.
"""

Interpolation = Literal["coco", "all_point", "11_point"]
"""How average precision is computed from the precision-recall curve.

``coco`` averages the precision at 101 recalls, ``all_point`` takes the area under the precision envelope (Pascal VOC
since 2010), ``11_point`` averages the precision at 11 recalls (Pascal VOC 2007).
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


def average_precision(
    matches: Matches, interpolation: Interpolation = "coco", weights: np.ndarray | None = None
) -> np.ndarray:
    """Compute the average precision at each IoU threshold, ``(thresholds,)``; NaN without reference boxes.

    Args:
        matches: matched detections of one class.
        interpolation: ``coco``, ``all_point`` or ``11_point``, see `Interpolation`.
        weights: ``(cases,)`` number of times that each case counts; ``None`` counts each once.

    Raises:
        InputError: an unknown interpolation.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])
    >>> average_precision(match([case], iou_thresholds=[0.5, 0.8])).tolist()
    [1.0, 0.0]
    """
    if interpolation not in _INTERPOLATIONS:
        msg = f"interpolation must be one of {', '.join(_INTERPOLATIONS)}; got {interpolation!r}"
        raise InputError(msg)
    if not _references(matches, weights):
        return np.full(len(matches.iou_thresholds), np.nan)
    return np.array([_INTERPOLATIONS[interpolation](*curve) for curve in precision_recall(matches, weights)])


def precision_recall(matches: Matches, weights: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Compute recall and precision after each counted detection, in order of descending score.

    Args:
        matches: matched detections of one class.
        weights: ``(cases,)`` number of times that each case counts; ``None`` counts each once.

    Returns:
        one pair of arrays (recall, precision) per IoU threshold; recall is NaN without reference boxes.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])
    >>> [(r.tolist(), p.tolist()) for r, p in precision_recall(match([case], iou_thresholds=[0.5]))]
    [([1.0], [1.0])]
    """
    weights = np.ones(len(matches.references)) if weights is None else np.asarray(weights, float)
    references = _references(matches, weights)
    detection_weights = weights[matches.case]
    curves = []
    for hit, skip in zip(matches.hits, matches.ignored, strict=True):
        counted = ~skip & (detection_weights > 0)
        true_positives = np.cumsum(detection_weights[counted] * hit[counted])
        recalls = true_positives / references if references else np.full(len(true_positives), np.nan)
        curves.append((recalls, true_positives / np.cumsum(detection_weights[counted])))
    return curves


def precision_at(points: np.ndarray, recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Interpolate precision as COCO does: the highest precision at a recall of at least each of ``points``.

    Args:
        points: ``(p,)`` recalls at which to interpolate.
        recall: ``(n,)`` recalls of the curve, ascending.
        precision: ``(n,)`` precision at each recall of the curve.

    Returns:
        ``(p,)`` precisions; 0 at recalls that the curve does not reach.

    >>> precision_at(np.array([0.5, 1.0]), np.array([0.5, 0.5]), np.array([1.0, 0.5])).tolist()
    [1.0, 0.0]
    """
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return envelope[np.searchsorted(recall, points, side="left")]


def mean_average_precision(matches: Iterable[Matches], weights: np.ndarray | None = None) -> float:
    """Compute the average precision, averaged over IoU thresholds and classes.

    With `COCO_IOU_THRESHOLDS` this is COCO's AP@[.50:.95] in any number of dimensions. Classes without reference boxes
    are left out; NaN if no class has any.

    Args:
        matches: one `Matches` per class.
        weights: ``(cases,)`` number of times that each case counts; ``None`` counts each once.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])
    >>> round(mean_average_precision([match([case])]), 9)
    0.6
    """
    return _mean_over_classes([average_precision(m, weights=weights) for m in matches if _references(m, weights)])


def recall(matches: Iterable[Matches], weights: np.ndarray | None = None) -> float:
    """Compute the recall, averaged over IoU thresholds and classes; COCO calls it average recall (AR).

    Classes without reference boxes are left out; NaN if no class has any.

    Args:
        matches: one `Matches` per class.
        weights: ``(cases,)`` number of times that each case counts; ``None`` counts each once.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3], [5, 5, 6, 6]], [1, 1])
    >>> recall([match([case], iou_thresholds=[0.5])])
    0.5
    """
    curves = [precision_recall(m, weights) for m in matches if _references(m, weights)]
    return _mean_over_classes([np.array([r.max(initial=0.0) for r, _ in by_threshold]) for by_threshold in curves])


def _references(matches: Matches, weights: np.ndarray | None) -> float:
    return float(matches.references.sum() if weights is None else weights @ matches.references)


def _mean_over_classes(by_class: list[np.ndarray]) -> float:
    return float(np.mean(by_class)) if by_class else float("nan")


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
        overlap = box_iou(np.asarray(case.boxes)[detected][best_first], np.asarray(case.reference_boxes)[reference])
        crowd = case.crowd[reference]
        if rule == "coco" and crowd.any():
            crowds = np.asarray(case.reference_boxes)[reference][crowd]
            overlap[:, crowd] = box_iof(np.asarray(case.boxes)[detected][best_first], crowds)
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


def _coco_points(recall: np.ndarray, precision: np.ndarray) -> float:
    return float(precision_at(COCO_RECALLS, recall, precision).mean())


def _eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    return float(precision_at(np.linspace(0, 1, 11), recall, precision).mean())


def _all_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the envelope of the precision-recall curve."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


_INTERPOLATIONS = {"coco": _coco_points, "all_point": _all_points, "11_point": _eleven_points}
