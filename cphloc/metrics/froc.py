"""Free-response ROC (FROC): sensitivity against false positives per scan, by the rules of the LUNA16 challenge.

- A target is detected with the highest score of the candidates that hit it; the other candidates that hit it are
  neither true nor false positives.
- A candidate may detect several targets.
- A candidate that hits only excluded targets is neither a true nor a false positive.
- The number of false positives is divided by that of *all* scans, including those without targets or candidates.

Whether a candidate hits a target is computed by `hits_in_radius` for points and by `hits_by_iou` for boxes. The scores
of CAMELYON16 and MONAI differ only in the operating points, `CAMELYON_FP_PER_SCAN`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cphloc.errors import InputError
from cphloc.metrics.box_overlap import box_iof, box_iou
from cphloc.metrics.detection import DetectionCase

LUNA16_FP_PER_SCAN = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""Operating points whose mean sensitivity is the competition performance metric (CPM)."""

CAMELYON_FP_PER_SCAN = (1 / 4, 1 / 2, 1, 2, 4, 8)
"""The six operating points of CAMELYON16, MONAI's default; their mean is not the CPM."""

UNKNOWN_DIAMETER_MM = 10.0
"""Diameter of targets whose diameter is unknown."""


@dataclass(frozen=True)
class Scan:
    """Candidates of one scan and the targets they hit.

    Args:
        scores: ``(n,)`` confidence of each candidate.
        hits: ``(n, m)`` bool, whether a candidate hits a target.
        excluded: ``(m,)`` bool, targets that do not count; ``None`` for none.

    Raises:
        InputError: the shapes do not agree.
    """

    scores: np.ndarray
    hits: np.ndarray
    excluded: np.ndarray | None = None

    @property
    def required(self) -> np.ndarray:
        """Bool mask ``(m,)`` of the targets that count."""
        return np.ones(self.hits.shape[-1], bool) if self.excluded is None else ~self.excluded

    def __post_init__(self) -> None:
        hits = np.asarray(self.hits, bool)
        excluded = np.zeros(hits.shape[-1], bool) if self.excluded is None else np.asarray(self.excluded, bool)
        object.__setattr__(self, "scores", np.asarray(self.scores, float))
        object.__setattr__(self, "hits", hits)
        object.__setattr__(self, "excluded", excluded)
        if hits.shape != (len(self.scores), len(excluded)):
            msg = f"hits must be (candidates, targets) = ({len(self.scores)}, {len(excluded)}), got {hits.shape}"
            raise InputError(msg)


def hits_in_radius(points_mm: np.ndarray, centres_mm: np.ndarray, diameters_mm: np.ndarray) -> np.ndarray:
    """Compute which points hit which targets by the rule of LUNA16: closer to the centre than the radius, strictly.

    Args:
        points_mm: ``(n, D)`` candidate positions.
        centres_mm: ``(m, D)`` centres of the targets.
        diameters_mm: ``(m,)`` diameters of the targets; a negative one is unknown and taken as 10 mm.

    Returns:
        ``(n, m)`` bool.

    >>> hits_in_radius([[0, 0, 2.9], [0, 0, 3]], [[0, 0, 0]], [6]).tolist()
    [[True], [False]]
    """
    centres_mm, diameters_mm = np.asarray(centres_mm, float), np.asarray(diameters_mm, float)
    radii_mm = np.where(diameters_mm < 0, UNKNOWN_DIAMETER_MM, diameters_mm) / 2
    offsets = np.asarray(points_mm, float).reshape(-1, 1, centres_mm.shape[-1]) - centres_mm
    return (offsets**2).sum(axis=-1) < radii_mm**2


def hits_by_iou(boxes: np.ndarray, targets: np.ndarray, iou_threshold: float = 0.1) -> np.ndarray:
    """Compute which boxes hit which targets: those whose IoU is at least the threshold.

    Args:
        boxes: ``(n, 2 D)`` candidate boxes.
        targets: ``(m, 2 D)`` reference boxes.
        iou_threshold: smallest IoU of a hit.

    Returns:
        ``(n, m)`` bool.

    >>> hits_by_iou([[0, 0, 2, 2]], [[0, 0, 2, 1], [5, 5, 6, 6]], 0.5).tolist()
    [[True, False]]
    """
    return box_iou(boxes, targets) >= iou_threshold


class Froc:
    """FROC curve of a data set.

    Args:
        scans: all scans of the data set, including those without candidates or targets.

    >>> froc = Froc([Scan([0.9, 0.8], [[True], [False]]), Scan([0.7], [[True]])])
    >>> froc.sensitivity_at([0, 0.5])
    array([0.5, 1. ])
    """

    def __init__(self, scans: Sequence[Scan]) -> None:
        events = [_events(scan) for scan in scans]
        sizes = [len(scores) for scores, _ in events]
        scores = np.concatenate([np.zeros(0), *(scores for scores, _ in events)])
        order = np.argsort(-scores, kind="stable")
        self.scores = scores[order]
        self.found = np.concatenate([np.zeros(0, bool), *(found for _, found in events)])[order]
        self.scan = np.repeat(np.arange(len(scans)), sizes)[order]
        self.targets = np.array([np.count_nonzero(scan.required) for scan in scans], int)

    def curve(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the points of the curve, one per distinct score.

        Args:
            weights: ``(scans,)`` number of times that each scan counts; ``None`` counts each once.

        Returns:
            false positives per scan, sensitivity and score threshold of each point, in order of descending threshold.
        """
        weights = np.ones(len(self.targets)) if weights is None else np.asarray(weights, float)
        event_weights = weights[self.scan]
        last_of_tie = np.append(np.diff(self.scores) != 0, True)[: len(self.scores)]
        false, true = (np.cumsum(event_weights * kind)[last_of_tie] for kind in (~self.found, self.found))
        targets = weights @ self.targets
        sensitivity = np.append(0.0, true) / targets if targets else np.full(len(true) + 1, np.nan)
        return np.append(0.0, false) / weights.sum(), sensitivity, np.append(np.inf, self.scores[last_of_tie])

    def sensitivity_at(
        self, fp_per_scan: Sequence[float] | np.ndarray = LUNA16_FP_PER_SCAN, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Interpolate the sensitivity linearly at given false positives per scan; NaN without targets."""
        rate, sensitivity, _ = self.curve(weights)
        return np.interp(np.asarray(fp_per_scan, float), rate, sensitivity)

    def score(
        self, fp_per_scan: Sequence[float] | np.ndarray = LUNA16_FP_PER_SCAN, weights: np.ndarray | None = None
    ) -> float:
        """Compute the mean sensitivity at given false positives per scan; the default seven give LUNA16's CPM."""
        return float(self.sensitivity_at(fp_per_scan, weights).mean())


def froc_of_boxes(cases: Sequence[DetectionCase], iou_threshold: float = 0.1) -> Froc:
    """Compute the FROC curve of the boxes of all classes together.

    Args:
        cases: detections and references of each image; ignored references are excluded.
        iou_threshold: smallest IoU with which a box hits a target of its class.

    >>> froc_of_boxes([DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])]).score()
    1.0
    """
    return Froc([_scan(case, iou_threshold) for case in cases])


def _scan(case: DetectionCase, iou_threshold: float) -> Scan:
    hits = hits_by_iou(case.boxes, case.reference_boxes, iou_threshold)
    if case.crowd.any():
        hits[:, case.crowd] = box_iof(case.boxes, np.asarray(case.reference_boxes)[case.crowd]) >= iou_threshold
    same_class = np.asarray(case.classes)[:, None] == np.asarray(case.reference_classes)
    return Scan(case.scores, hits & same_class, case.ignored)


def _events(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Scores of detected targets and of false positives in a scan, and bool of the same length, True for the targets.

    A detected target has the score of its best candidate.
    """
    required = scan.hits[:, scan.required]
    detected = required[:, required.any(axis=0)]
    best = np.where(detected, scan.scores[:, None], -np.inf).max(axis=0, initial=-np.inf)
    false = scan.scores[~scan.hits.any(axis=1)]
    return np.concatenate([best, false]), np.arange(len(best) + len(false)) < len(best)
