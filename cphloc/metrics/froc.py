"""Free-response ROC: sensitivity against false positives per scan, by the rules of the LUNA16 challenge.

- Of the candidates that hit a target the best-scored one counts; the others on it count neither way.
- A candidate that hits two targets finds both.
- A candidate that hits only excluded targets counts neither way.
- False positives are divided by *all* scans, also those without targets or candidates.

What a hit is, the caller decides: `hits_in_radius` for points, `hits_by_iou` for boxes. MONAI's (CAMELYON's) score
differs only in its operating points, `CAMELYON_FP_PER_SCAN`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cphloc.errors import InputError
from cphloc.metrics.detection import DetectionCase, box_iou

LUNA16_FP_PER_SCAN = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""Operating points whose mean sensitivity is the competition performance metric (CPM)."""

CAMELYON_FP_PER_SCAN = (1 / 4, 1 / 2, 1, 2, 4, 8)
"""The six operating points of CAMELYON16, MONAI's default; their mean is not the CPM."""

UNKNOWN_DIAMETER_MM = 10.0


@dataclass(frozen=True)
class Scan:
    """Candidates of one scan and the targets they hit.

    Args:
        scores: ``(n,)`` of the candidates.
        hits: ``(n, m)`` bool, whether a candidate hits a target.
        excluded: ``(m,)`` bool, targets that need not be found; ``None`` for none.
    """

    scores: np.ndarray
    hits: np.ndarray
    excluded: np.ndarray | None = None

    @property
    def required(self) -> np.ndarray:
        """``(m,)`` bool, targets that must be found."""
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
    """LUNA16's hit: a point ``(n, D)`` lies nearer to a centre ``(m, D)`` than its radius, strictly.

    An unknown (negative) diameter counts as 10 mm.

    >>> hits_in_radius([[0, 0, 2.9], [0, 0, 3]], [[0, 0, 0]], [6]).tolist()
    [[True], [False]]
    """
    centres_mm, diameters_mm = np.asarray(centres_mm, float), np.asarray(diameters_mm, float)
    radii_mm = np.where(diameters_mm < 0, UNKNOWN_DIAMETER_MM, diameters_mm) / 2
    apart = np.asarray(points_mm, float).reshape(-1, 1, centres_mm.shape[-1]) - centres_mm
    return (apart**2).sum(axis=-1) < radii_mm**2


def hits_by_iou(boxes: np.ndarray, targets: np.ndarray, iou_threshold: float = 0.1) -> np.ndarray:
    """Compare boxes ``(n, 2 D)`` with targets ``(m, 2 D)``: ``(n, m)`` bool, True where the IoU reaches the threshold.

    >>> hits_by_iou([[0, 0, 2, 2]], [[0, 0, 2, 1], [5, 5, 6, 6]], 0.5).tolist()
    [[True, False]]
    """
    return box_iou(boxes, targets) >= iou_threshold


class Froc:
    """FROC of many scans.

    Args:
        scans: every scan of the data set, also the empty ones.

    >>> found = Froc([Scan([0.9, 0.8], [[True], [False]]), Scan([0.7], [[True]])])
    >>> found.sensitivity_at([0, 0.5])
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
        """False positives per scan, sensitivity and score threshold, one point per distinct score.

        Args:
            weights: ``(scans,)`` how often each scan counts.
        """
        weights = np.ones(len(self.targets)) if weights is None else np.asarray(weights, float)
        each = weights[self.scan]
        last_of_tie = np.append(np.diff(self.scores) != 0, True)[: len(self.scores)]
        false, true = (np.cumsum(each * kind)[last_of_tie] for kind in (~self.found, self.found))
        there = weights @ self.targets
        sensitivity = np.append(0.0, true) / there if there else np.full(len(true) + 1, np.nan)
        return np.append(0.0, false) / weights.sum(), sensitivity, np.append(np.inf, self.scores[last_of_tie])

    def sensitivity_at(
        self, fp_per_scan: Sequence[float] | np.ndarray = LUNA16_FP_PER_SCAN, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Sensitivity at given false positives per scan, interpolated linearly; NaN where no target exists."""
        rate, sensitivity, _ = self.curve(weights)
        return np.interp(np.asarray(fp_per_scan, float), rate, sensitivity)

    def score(
        self, fp_per_scan: Sequence[float] | np.ndarray = LUNA16_FP_PER_SCAN, weights: np.ndarray | None = None
    ) -> float:
        """Mean sensitivity at the operating points: the CPM with the default seven."""
        return float(self.sensitivity_at(fp_per_scan, weights).mean())


def froc_of_boxes(cases: Sequence[DetectionCase], iou_threshold: float = 0.1) -> Froc:
    """FROC of the boxes of all classes; a box hits a target of its class from this IoU on.

    >>> froc_of_boxes([DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])]).score()
    1.0
    """
    return Froc([_scan(case, iou_threshold) for case in cases])


def _scan(case: DetectionCase, iou_threshold: float) -> Scan:
    hits = hits_by_iou(case.boxes, case.reference_boxes, iou_threshold)
    same_class = np.asarray(case.classes)[:, None] == np.asarray(case.reference_classes)
    return Scan(case.scores, hits & same_class, case.ignored)


def _events(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the candidates of a scan that count, and for each True for a found target, False for a false positive.

    A found target has the score of its best candidate.
    """
    wanted = scan.hits[:, scan.required]
    found = wanted[:, wanted.any(axis=0)]
    best = np.where(found, scan.scores[:, None], -np.inf).max(axis=0, initial=-np.inf)
    false = scan.scores[~scan.hits.any(axis=1)]
    return np.concatenate([best, false]), np.arange(len(best) + len(false)) < len(best)
