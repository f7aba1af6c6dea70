"""Average precision and recall of boxes in any number of dimensions.

Boxes are ``(n, 2 D)`` edge coordinates ``[lo..., hi...]`` in array-axis order. The cases are matched once (`match`) and
every score is a function of the matches; ``weights`` says how often each case counts, as
`cphloc.metrics.bootstrap.weighted_bootstrap` gives them. 3-D IoU is harsher than 2-D IoU, so medical 3-D work reports
AP at IoU 0.1 as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from cphloc.errors import InputError

COCO_IOU_THRESHOLDS = tuple(k / 100 for k in range(50, 100, 5))
"""0.50, 0.55, ..., 0.95: the thresholds that COCO's mAP averages over."""

COCO_RECALLS = np.linspace(0, 1, 101)
"""The recalls at which COCO averages precision."""

MatchingRule = Literal["coco", "voc"]
"""``coco``: a detection takes the best reference that is still free. ``voc``: it takes the one it overlaps most, and is
a false positive where that one is taken."""

Interpolation = Literal["coco", "all_point", "11_point"]
"""Of the precision-recall curve: COCO's 101 recall points, the area under the envelope (VOC since 2010), or VOC 2007's
11 points."""


@dataclass(frozen=True)
class DetectionCase:
    """Boxes found in one image and the boxes that are there.

    Args:
        boxes: ``(n, 2 D)`` found.
        scores: ``(n,)``.
        classes: ``(n,)``.
        reference_boxes: ``(m, 2 D)`` there; shape ``(0, 2 D)`` for an image without objects.
        reference_classes: ``(m,)``.
        ignored: ``(m,)`` bool; a detection that matches nothing better than an ignored box counts neither way.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    reference_boxes: np.ndarray
    reference_classes: np.ndarray
    ignored: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        if not len(self.ignored):
            object.__setattr__(self, "ignored", np.zeros(len(self.reference_boxes), bool))
        found = len(self.boxes), len(self.scores), len(self.classes)
        there = len(self.reference_boxes), len(self.reference_classes), len(self.ignored)
        if len(set(found)) > 1 or len(set(there)) > 1:
            msg = f"boxes, scores and classes number {found}, reference boxes, classes and ignored {there}; must agree"
            raise InputError(msg)


@dataclass(frozen=True)
class Matches:
    """Detections of one class in all cases, by falling score; made by `match`.

    Args:
        case: ``(n,)`` which case each detection is of.
        scores: ``(n,)``.
        hits: ``(thresholds, n)`` whether it is a true positive.
        ignored: ``(thresholds, n)`` whether it counts neither way.
        references: ``(cases,)`` how many boxes are there.
        iou_thresholds: as matched.
    """

    case: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    references: np.ndarray
    iou_thresholds: tuple[float, ...]


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of every pair of boxes: ``(n, 2 D)`` and ``(m, 2 D)`` to ``(n, m)``; 0 where both have no volume.

    Raises:
        InputError: a box has an upper corner below its lower corner, or the two differ in dimension.

    >>> box_iou([[0, 0, 100, 100]], [[0, 0, 50, 50], [0, 0, 100, 100]])
    array([[0.25, 1.  ]])
    """
    boxes, others = (np.atleast_2d(np.asarray(b, float)) for b in (boxes, others))
    if boxes.shape[1] != others.shape[1]:
        msg = f"boxes have {boxes.shape[1]} and {others.shape[1]} coordinates; both need 2 D of the same D"
        raise InputError(msg)
    dims = boxes.shape[1] // 2
    (low, high), (other_low, other_high) = ((b[:, :dims], b[:, dims:]) for b in (boxes, others))
    for b, lower, upper in ((boxes, low, high), (others, other_low, other_high)):
        if (upper < lower).any():
            msg = f"box {b[(upper < lower).any(axis=1)][0].tolist()} has hi < lo; expected [lo..., hi...]"
            raise InputError(msg)
    shared = np.minimum(high[:, None], other_high) - np.maximum(low[:, None], other_low)
    intersection = shared.clip(min=0).prod(axis=-1)
    union = (high - low).prod(axis=-1)[:, None] + (other_high - other_low).prod(axis=-1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def match(
    cases: Sequence[DetectionCase],
    label: int = 1,
    iou_thresholds: Sequence[float] = COCO_IOU_THRESHOLDS,
    rule: MatchingRule = "coco",
    max_detections: int = 100,
) -> Matches:
    """Match the detections of class ``label`` to the references, each case by falling score.

    Args:
        cases: all images, also those without boxes.
        label: class to match.
        iou_thresholds: a match needs an IoU of at least this.
        rule: whether a detection may take its second choice.
        max_detections: best-scored ones that count in an image.

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
    """AP at each IoU threshold, ``(thresholds,)``; NaN where no reference exists.

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
    """Recall and precision after each counted detection, one pair of arrays per IoU threshold; recall NaN without
    references.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])
    >>> [(r.tolist(), p.tolist()) for r, p in precision_recall(match([case], iou_thresholds=[0.5]))]
    [([1.0], [1.0])]
    """
    weights = np.ones(len(matches.references)) if weights is None else np.asarray(weights, float)
    there = _references(matches, weights)
    each = weights[matches.case]
    curves = []
    for hit, skip in zip(matches.hits, matches.ignored, strict=True):
        counted = ~skip & (each > 0)
        true = np.cumsum(each[counted] * hit[counted])
        recalled = true / there if there else np.full(len(true), np.nan)
        curves.append((recalled, true / np.cumsum(each[counted])))
    return curves


def precision_at(points: np.ndarray, recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Best precision at each of the recalls ``points`` or beyond it, 0 beyond the last: what COCO averages.

    >>> precision_at(np.array([0.5, 1.0]), np.array([0.5, 0.5]), np.array([1.0, 0.5])).tolist()
    [1.0, 0.0]
    """
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return envelope[np.searchsorted(recall, points, side="left")]


def mean_average_precision(matches: Iterable[Matches], weights: np.ndarray | None = None) -> float:
    """AP averaged over IoU thresholds and classes; classes without references are left out, NaN if all are.

    With `COCO_IOU_THRESHOLDS` this is COCO's AP@[.50:.95] in any number of dimensions.

    Args:
        matches: one `Matches` per class.
        weights: ``(cases,)`` how often each case counts.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])
    >>> round(mean_average_precision([match([case])]), 9)
    0.6
    """
    return _mean_over_classes([average_precision(m, weights=weights) for m in matches if _references(m, weights)])


def recall(matches: Iterable[Matches], weights: np.ndarray | None = None) -> float:
    """Share of references that were found, averaged over IoU thresholds and classes: COCO's AR.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3], [5, 5, 6, 6]], [1, 1])
    >>> recall([match([case], iou_thresholds=[0.5])])
    0.5
    """
    there = [m for m in matches if _references(m, weights)]
    curves = [precision_recall(m, weights) for m in there]
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
    mine, there = np.asarray(case.classes) == label, np.asarray(case.reference_classes) == label
    skipped = np.asarray(case.ignored, bool)[there]
    scores = np.asarray(case.scores, float)[mine]
    best_first = np.argsort(-scores, kind="stable")[:max_detections]
    hits, ignored = np.zeros((2, len(thresholds), len(best_first)), bool)
    if len(best_first) and there.any():
        overlap = box_iou(np.asarray(case.boxes)[mine][best_first], np.asarray(case.reference_boxes)[there])
        hits = _take_references(overlap[:, ~skipped], thresholds, rule)
        ignored = ~hits & (overlap[:, skipped].max(axis=1, initial=-1.0) >= thresholds[:, None])
    return _CaseMatch(scores[best_first], hits, ignored, int(np.count_nonzero(~skipped)))


def _take_references(overlap: np.ndarray, thresholds: np.ndarray, rule: MatchingRule) -> np.ndarray:
    """True positives ``(thresholds, detections)`` among detections of falling score with IoU ``(detections, m)``."""
    hits = np.zeros((len(thresholds), len(overlap)), bool)
    free = np.ones((len(thresholds), overlap.shape[1]), bool)
    rows = np.arange(len(thresholds))
    for k in np.flatnonzero(overlap.max(axis=1, initial=-1.0) >= thresholds.min()):
        wanted = np.where(free | (rule == "voc"), overlap[k], -1.0)
        best = wanted.argmax(axis=1)
        hits[:, k] = (wanted[rows, best] >= thresholds) & free[rows, best]
        free[rows[hits[:, k]], best[hits[:, k]]] = False
    return hits


def _coco_points(recall: np.ndarray, precision: np.ndarray) -> float:
    return float(precision_at(COCO_RECALLS, recall, precision).mean())


def _eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    return float(precision_at(np.linspace(0, 1, 11), recall, precision).mean())


def _all_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the envelope of precision over recall."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


_INTERPOLATIONS = {"coco": _coco_points, "all_point": _all_points, "11_point": _eleven_points}
