"""Choose on validation cases what a prediction needs besides the weights: temperature of the labels, and thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cphloc.metrics.calibration import LEAST_CASES, fitted_temperature
from cphloc.metrics.detection import DetectionCase, match
from cphloc.structures.annotation import IGNORE

GRID = np.arange(0.05, 0.96, 0.05).round(2)
"""Candidate thresholds of mask probabilities."""

MASK_GAIN = 0.005
"""Mean Dice that a mask threshold must gain over the most probable class to be used."""

MATCH_IOU = {2: 0.5, 3: 0.1}
"""IoU from which a box counts as correct, by the number of axes; the same shift lowers the IoU more in 3-D."""


@dataclass
class OperatingPoint:
    """Collects predictions and annotations of validation cases.

    A score threshold is chosen from at least `LEAST_CASES` correct and as many wrong boxes, and a mask threshold from
    as many cases with an object, each of which has background too. From fewer it is mostly chance, and none is set.

    Args:
        classes: number 1..K -> name.
        dims: 2 or 3.
    """

    classes: Mapping[int, str]
    dims: int
    labels: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    boxes: list[DetectionCase] = field(default_factory=list)
    dice: list[np.ndarray] = field(default_factory=list)
    cases_with_object: int = 0

    def add_labels(self, probabilities: Sequence[float], label: np.ndarray) -> None:
        """Add predicted probabilities ``(K,)`` and known labels ``(K,)`` of one case."""
        self.labels.append((np.asarray(probabilities), label))

    def add_mask(self, probabilities: np.ndarray, mask: np.ndarray, known: np.ndarray | None = None) -> None:
        """Add class probabilities ``(K + 1, *S)``, the annotated mask ``(*S)``, and which classes it knows ``(K,)``."""
        dice = dice_by_threshold(probabilities, mask)
        self.dice.append(dice if known is None else np.where(known, dice, np.nan))
        annotated = [number for number in range(1, len(probabilities)) if known is None or known[number - 1]]
        self.cases_with_object += bool(np.isin(mask, annotated).any())

    @property
    def temperature(self) -> float:
        """Temperature of the label probabilities; 1 without labels."""
        if not self.labels:
            return 1.0
        predicted, known = zip(*self.labels, strict=True)
        return fitted_temperature(np.array(predicted), np.array(known))

    @property
    def thresholds(self) -> dict[str, float]:
        """Least score of a ``boxes`` and least probability of a ``mask``, for the parts in which one is better."""
        chosen = {"boxes": self._box_threshold(), "mask": self._mask_threshold()}
        return {part: value for part, value in chosen.items() if value is not None}

    @property
    def shortages(self) -> list[str]:
        """What there was too little of to choose a temperature or threshold, one line each."""
        least, lines = f"at least {LEAST_CASES} of each are needed", []
        if self.labels and (low := self._label_counts()) and min(low) < LEAST_CASES:
            lines.append(f"no temperature is fitted to {low[0]} positive and {low[1]} negative labels; {least}")
        if self.boxes and min(right_and_wrong := self._box_counts()) < LEAST_CASES:
            right, wrong = right_and_wrong
            lines.append(f"no score threshold is chosen from {right} correct and {wrong} wrong boxes; {least}")
        if self.dice and self.cases_with_object < LEAST_CASES:
            lines.append(
                f"no mask threshold is chosen from {self.cases_with_object} cases with an object; at least "
                f"{LEAST_CASES} are needed"
            )
        return lines

    def _label_counts(self) -> tuple[int, int]:
        """Number of positive and of negative labels."""
        known = np.array([label for _, label in self.labels], float)
        return int((known > 0.5).sum()), int((known <= 0.5).sum())

    def _box_counts(self) -> tuple[int, int]:
        """Number of correct and of wrong boxes."""
        _, hits, _ = self._matched()
        return int(hits.sum()), int((~hits).sum())

    def _matched(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Scores and correctness of all boxes that count, best first, and the number of annotated boxes."""
        matched = [match(self.boxes, number, [MATCH_IOU[self.dims]]) for number in self.classes] if self.boxes else []
        scores = np.concatenate([np.zeros(0), *(m.scores[~m.ignored[0]] for m in matched)])
        hits = np.concatenate([np.zeros(0, bool), *(m.hits[0][~m.ignored[0]] for m in matched)])
        order = np.argsort(-scores, kind="stable")
        return scores[order], hits[order], sum(int(m.references.sum()) for m in matched)

    def _box_threshold(self) -> float | None:
        """Score with the highest F1 over the boxes of all cases and classes; ``None`` if too few are right or wrong."""
        if min(self._box_counts()) < LEAST_CASES:
            return None
        scores, hits, references = self._matched()
        correct = hits.cumsum()
        last = np.append(scores[1:] < scores[:-1], True)  # boxes of one score are kept or dropped together
        f1 = np.where(last, 2 * correct / (np.arange(1, len(scores) + 1) + references), -1)
        best = int(f1.argmax())
        below = scores[best + 1] if best + 1 < len(scores) else 0.0
        return round(float(scores[best] + below) / 2, 4)

    def _mask_threshold(self) -> float | None:
        """Probability with the highest mean Dice; ``None`` if the most probable class is as good, or cases are few."""
        if self.cases_with_object < LEAST_CASES:
            return None
        counted = np.stack(self.dice)
        known = ~np.isnan(counted)
        per_class = np.where(known, counted, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        present = known.any(axis=(0, 1))
        if not present.any():
            return None
        most_probable, *swept = per_class[:, present].mean(axis=1)
        best = int(np.argmax(swept))
        return float(GRID[best]) if swept[best] > most_probable + MASK_GAIN else None


def dice_by_threshold(probabilities: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Compute the Dice of each class for the most probable class, and for each threshold of `GRID`.

    Args:
        probabilities: ``(K + 1, *S)``, background first.
        mask: ``(*S)``, annotated classes; 255 is not annotated.

    Returns:
        ``(1 + len(GRID), K)``; NaN where neither prediction nor annotation has the class.
    """
    known = mask != IGNORE
    values, truth = probabilities[:, known], mask[known]
    foreground, most_probable = values[1:].argmax(axis=0) + 1, values.argmax(axis=0)
    level = np.digitize(values[1:].max(axis=0), GRID)  # number of thresholds that the voxel passes
    classes = range(1, len(probabilities))
    rows = [[_dice(*_counts(most_probable == k, truth == k)) for k in classes]]
    predicted = np.stack([_passing(level[foreground == k]) for k in classes], axis=1)
    shared = np.stack([_passing(level[(foreground == k) & (truth == k)]) for k in classes], axis=1)
    sizes = np.array([np.count_nonzero(truth == k) for k in classes])
    swept = [
        [_dice(s, p, n) for s, p, n in zip(*row, sizes, strict=True)] for row in zip(shared, predicted, strict=True)
    ]
    return np.array(rows + swept)


def _counts(predicted: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    return int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())


def _passing(level: np.ndarray) -> np.ndarray:
    """Number of voxels that pass each threshold of `GRID`."""
    counts = np.bincount(level, minlength=len(GRID) + 1)
    return counts[::-1].cumsum()[::-1][1:]


def _dice(shared: int, predicted: int, truth: int) -> float:
    return 2 * shared / (predicted + truth) if predicted + truth else float("nan")
