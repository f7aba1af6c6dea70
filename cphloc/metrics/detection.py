"""Average precision and recall of boxes in any number of dimensions.

Boxes are ``(n, 2 D)`` arrays of edge coordinates ``[lo..., hi...]`` in array-axis order. `match` assigns detections to
reference boxes once, and every score is computed from its result. ``weights`` ``(cases,)`` is the number of times that
each case counts, as drawn by `cphloc.metrics.bootstrap.weighted_bootstrap`. The same misplacement lowers the IoU more
in 3-D than in 2-D, so AP at IoU 0.1 is commonly reported in 3-D as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from cphloc.errors import InputError
from cphloc.metrics.matching import COCO_IOU_THRESHOLDS, DetectionCase, Matches, MatchingRule, match

__all__ = [
    "COCO_IOU_THRESHOLDS",
    "COCO_RECALLS",
    "DetectionCase",
    "Interpolation",
    "Matches",
    "MatchingRule",
    "average_precision",
    "match",
    "mean_average_precision",
    "precision_at",
    "precision_recall",
    "recall",
]

COCO_RECALLS = np.linspace(0, 1, 101)
"""The 101 recalls 0, 0.01, ..., 1 over which COCO averages precision."""

Interpolation = Literal["coco", "all_point", "11_point"]
"""How average precision is computed from the precision-recall curve.

``coco`` averages the precision at 101 recalls, ``all_point`` takes the area under the precision envelope (Pascal VOC
since 2010), ``11_point`` averages the precision at 11 recalls (Pascal VOC 2007).
"""


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


def _coco_points(recall: np.ndarray, precision: np.ndarray) -> float:
    return float(precision_at(COCO_RECALLS, recall, precision).mean())


def _eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    return float(precision_at(np.linspace(0, 1, 11), recall, precision).mean())


def _all_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the envelope of the precision-recall curve."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


_INTERPOLATIONS = {"coco": _coco_points, "all_point": _all_points, "11_point": _eleven_points}
