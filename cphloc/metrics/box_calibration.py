"""Calibration of boxes: whether a score is the share of boxes of that score that are right.

Source: Kueppers et al. 2020, Multivariate Confidence Calibration for Object Detection, arXiv:2004.13546.
"""

from __future__ import annotations

import numpy as np

from cphloc.metrics.classification import Reliability, expected_calibration_error, reliability
from cphloc.metrics.detection import Matches

LEAST_SCORE = 0.3
"""Boxes of lower scores do not count in the error, as in the source: they are many, and mostly right to be low."""


def detection_calibration_error(
    matches: Matches, bins: int = 10, weights: np.ndarray | None = None, least_score: float = LEAST_SCORE
) -> float:
    """Compute the detection expected calibration error (D-ECE) by score.

    It is the absolute difference between mean score and precision in each equal-width bin of scores, averaged over the
    bins with the number of boxes as weight; NaN without boxes.

    Args:
        matches: matched detections of one class at one IoU threshold.
        bins: number of bins.
        weights: ``(cases,)`` number of times that each case counts; ``None`` counts each once.
        least_score: boxes of lower scores are left out.

    >>> from cphloc.metrics.detection import DetectionCase, match
    >>> case = DetectionCase([[0, 0, 4, 4], [6, 6, 8, 8]], [0.9, 0.8], [1, 1], [[0, 0, 4, 4]], [1])
    >>> round(detection_calibration_error(match([case], iou_thresholds=[0.5])), 3)
    0.45
    """
    scores, right, cases = _counted(matches, least_score)
    return expected_calibration_error(scores, right, bins, None if weights is None else np.asarray(weights)[cases])


def box_reliability(matches: Matches, bins: int = 10, weights: np.ndarray | None = None) -> Reliability:
    """Compute mean score and precision of all boxes in each equal-width bin of scores.

    Args:
        matches: matched detections of one class at one IoU threshold.
        bins: number of bins.
        weights: as for `detection_calibration_error`.

    >>> from cphloc.metrics.detection import DetectionCase, match
    >>> case = DetectionCase([[0, 0, 4, 4], [6, 6, 8, 8]], [0.9, 0.3], [1, 1], [[0, 0, 4, 4]], [1])
    >>> box_reliability(match([case], iou_thresholds=[0.5]), bins=2).frequency.tolist()
    [0.0, 1.0]
    """
    scores, right, cases = _counted(matches, 0.0)
    return reliability(scores, right, bins, None if weights is None else np.asarray(weights)[cases])


def _counted(matches: Matches, least_score: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, 1 for a true positive, and case of each detection that is a true or a false positive."""
    counted = ~matches.ignored[0] & (matches.scores >= least_score)
    return matches.scores[counted], matches.hits[0][counted].astype(float), matches.case[counted]
