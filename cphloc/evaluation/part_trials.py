"""Try options of labels and boxes on cases outside the training: temperature of the labels, least score of a box."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from cphloc.evaluation.trial import compared, not_tried
from cphloc.metrics.calibration import LEAST_CASES, fitted_temperature, tempered
from cphloc.metrics.detection import DetectionCase, match
from cphloc.structures.options import Trial

MATCH_IOU = {2: 0.5, 3: 0.1}
"""IoU from which a box counts as correct, by the number of axes; the same shift lowers the IoU more in 3-D."""


def temperature_trial(labels: Sequence[tuple[np.ndarray, np.ndarray, str]]) -> tuple[float, Trial]:
    """Fit the temperature of the label probabilities; the Brier score decides whether it is kept.

    Args:
        labels: of each case the predicted probabilities ``(K,)``, the labels ``(K,)`` with NaN where unknown, and the
            patient.

    Returns:
        the temperature, 1 where it is not kept; and what was tried.
    """
    predicted, known, patients = (list(column) for column in zip(*labels, strict=True))
    stated, truth = np.array(predicted), np.array(known, float)
    positive, negative = int((truth > 0.5).sum()), int((truth <= 0.5).sum())
    if min(positive, negative) < LEAST_CASES:
        found = f"{positive} positive and {negative} negative labels"
        return 1.0, not_tried("temperature", f"{found}; at least {LEAST_CASES} of each are needed")
    temperature = fitted_temperature(stated, truth)
    before, after = (_brier_by_case(p, truth) for p in (stated, tempered(stated, temperature)))
    trial = compared("temperature", f"{temperature:.3g}", "brier", before, after, patients)
    return (temperature if trial.kept else 1.0), trial


def _brier_by_case(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean squared error of the known labels of each case; NaN without one."""
    known = ~np.isnan(labels)
    squared = np.where(known, (probabilities - np.nan_to_num(labels)) ** 2, 0).sum(axis=1)
    return np.where(known.any(axis=1), squared / np.maximum(known.sum(axis=1), 1), math.nan)


def box_trial(boxes: Sequence[DetectionCase], classes: Iterable[int], dims: int) -> tuple[float | None, Trial | None]:
    """Find the least score with the highest F1 over the boxes of all cases and classes.

    It is chosen from at least `LEAST_CASES` correct and as many wrong boxes, and then always kept: without one, every
    box that the head proposes is returned.

    Args:
        boxes: predicted and annotated boxes of each case.
        classes: numbers of the classes.
        dims: number of axes, which decides the IoU of a correct box.

    Returns:
        the score, ``None`` if too few boxes are right or wrong; and what was tried, ``None`` without boxes.
    """
    if not boxes:
        return None, None
    iou = MATCH_IOU[dims]
    matched = [match(boxes, number, [iou]) for number in classes]
    scores = np.concatenate([np.zeros(0), *(m.scores[~m.ignored[0]] for m in matched)])
    hits = np.concatenate([np.zeros(0, bool), *(m.hits[0][~m.ignored[0]] for m in matched)])
    references = sum(int(m.references.sum()) for m in matched)
    right, wrong = int(hits.sum()), int((~hits).sum())
    if min(right, wrong) < LEAST_CASES:
        found = f"{right} correct and {wrong} wrong boxes"
        return None, not_tried("threshold", f"{found}; at least {LEAST_CASES} of each are needed", "boxes")
    order = np.argsort(-scores, kind="stable")
    scores, correct = scores[order], hits[order].cumsum()
    last = np.append(scores[1:] < scores[:-1], True)  # boxes of one score are kept or dropped together
    f1 = np.where(last, 2 * correct / (np.arange(1, len(scores) + 1) + references), -1)
    best = int(f1.argmax())
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    least = round(float(scores[best] + below) / 2, 4)
    ends = {"before": float(f1[-1]), "after": float(f1[best]), "gain": float(f1[best] - f1[-1])}
    why = f"highest F1 at IoU {iou:g}"
    trial = Trial(option="threshold", value=f"{least:g}", of="boxes", metric="F1", n=len(boxes), kept=True, why=why)
    return least, trial.model_copy(update=ends)
