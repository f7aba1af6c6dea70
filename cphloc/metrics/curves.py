"""Curves with 95 % bands by patient: precision-recall, FROC, ROC, reliability. Points to draw or to write as CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cphloc.metrics import classification, detection
from cphloc.metrics.bootstrap import Interval, weighted_band
from cphloc.metrics.detection import DetectionCase
from cphloc.metrics.froc import LUNA16_FP_PER_SCAN, froc_of_boxes

RESAMPLES = 500
FP_PER_SCAN = np.geomspace(1 / 8, 8, 49)
"""Places of the FROC curve; LUNA16's seven operating points are every eighth of them."""


@dataclass(frozen=True)
class Curve:
    """One curve.

    Args:
        name: the class, or ``all classes``.
        x: ``(points,)`` places.
        y: ``(points,)`` values, NaN where undefined.
        low, high: ``(points,)`` ends of their 95 % intervals.
        summary: the number that sums it up.
        summary_name: its name, ``AP50`` and so on.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    summary: Interval
    summary_name: str


def precision_recall_curves(
    cases: Sequence[DetectionCase], classes: Mapping[int, str], patients: Sequence[Hashable], iou: float = 0.5
) -> list[Curve]:
    """Precision at COCO's 101 recalls, one curve a class that exists; its mean is the average precision.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])
    >>> precision_recall_curves([case], {1: "cell"}, ["a"])[0].summary.value
    1.0
    """
    curves = []
    for label, name in classes.items():
        matches = detection.match(cases, label, [iou])
        if not matches.references.any():
            continue

        def precision(weights: np.ndarray, matches: detection.Matches = matches) -> np.ndarray:
            ((recall, precision),) = detection.precision_recall(matches, weights)
            return detection.precision_at(detection.COCO_RECALLS, recall, precision)

        curves.append(_curve(name, detection.COCO_RECALLS, precision, np.mean, patients, f"AP{round(100 * iou)}"))
    return curves


def froc_curve(cases: Sequence[DetectionCase], patients: Sequence[Hashable], iou: float = 0.1) -> Curve:
    """Sensitivity over all classes at 1/8 to 8 false positives an image; summed up by the CPM.

    >>> froc_curve([DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])], ["a"]).summary.value
    1.0
    """
    curve = froc_of_boxes(cases, iou)
    operating = np.isin(np.arange(len(FP_PER_SCAN)), np.linspace(0, len(FP_PER_SCAN) - 1, len(LUNA16_FP_PER_SCAN)))
    return _curve(
        "all classes",
        FP_PER_SCAN,
        lambda weights: curve.sensitivity_at(FP_PER_SCAN, weights),
        lambda sensitivity: sensitivity[operating].mean(),
        patients,
        "CPM",
    )


def roc_curves(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], patients: Sequence[Hashable]
) -> list[Curve]:
    """Best sensitivity at each of 101 false positive rates, one curve a class; summed up by the AUC.

    Args:
        probabilities: ``(cases, K)``.
        labels: ``(cases, K)``; NaN where unknown.
        classes: K names.
        patients: of the cases.

    >>> roc_curves(np.array([[0.9], [0.2]]), np.array([[1], [0]]), ["cancer"], "ab")[0].summary.value
    1.0
    """
    places = np.linspace(0, 1, 101)

    def of_class(k: int) -> Callable[[np.ndarray], np.ndarray]:
        p, y = probabilities[:, k], labels[:, k]

        def sensitivity(weights: np.ndarray) -> np.ndarray:
            curve = classification.roc(p, y, weights)
            if np.isnan(curve.false_positive_rate).any():
                return np.full(len(places) + 1, np.nan)
            at = np.searchsorted(curve.false_positive_rate, places + 1e-12, side="right") - 1
            return np.append(curve.true_positive_rate[at], classification.auc(p, y, weights))

        return sensitivity

    return [_summed_up(name, places, of_class(k), patients, "AUC") for k, name in enumerate(classes)]


def reliability_curves(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], patients: Sequence[Hashable], bins: int = 10
) -> list[Curve]:
    """Share of positives over mean predicted probability, a point a bin, one curve a class; summed up by the ECE.

    >>> reliability_curves(np.array([[0.9], [0.2]]), np.array([[1], [0]]), ["cancer"], "ab")[0].y[9].item()
    1.0
    """
    curves = []
    for k, name in enumerate(classes):
        p, y = probabilities[:, k], labels[:, k]

        def frequency(weights: np.ndarray, p: np.ndarray = p, y: np.ndarray = y) -> np.ndarray:
            error = classification.expected_calibration_error(p, y, bins, weights)
            return np.append(classification.reliability(p, y, bins, weights).frequency, error)

        places = classification.reliability(p, y, bins).confidence
        curves.append(_summed_up(name, places, frequency, patients, "ECE"))
    return curves


def write_points(path: Path, curves: Sequence[Curve]) -> None:
    """Write every point of the curves as CSV: ``class,x,y,low,high``; what is undefined stays empty.

    >>> import tempfile
    >>> curve = Curve("a", *(np.array([v]) for v in (0.5, 1.0, 0.9, float("nan"))), Interval(1, 1, 1, 1), "AP")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_points(Path(folder) / "points.csv", [curve])
    ...     print((Path(folder) / "points.csv").read_text().split())
    ['class,x,y,low,high', 'a,0.5,1,0.9,']
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("class", "x", "y", "low", "high"))
        for curve in curves:
            for point in zip(curve.x, curve.y, curve.low, curve.high, strict=True):
                writer.writerow((curve.name, *("" if np.isnan(v) else f"{v:.6g}" for v in point)))


def _curve(
    name: str,
    x: np.ndarray,
    y: Callable[[np.ndarray], np.ndarray],
    summary: Callable[[np.ndarray], float],
    patients: Sequence[Hashable],
    summary_name: str,
) -> Curve:
    def with_summary(weights: np.ndarray) -> np.ndarray:
        values = y(weights)
        return np.append(values, summary(values))

    return _summed_up(name, x, with_summary, patients, summary_name)


def _summed_up(
    name: str,
    x: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    patients: Sequence[Hashable],
    summary_name: str,
) -> Curve:
    """A curve from a statistic that gives its values and, last, their summary."""
    value, low, high = weighted_band(statistic, patients, RESAMPLES)
    summary = Interval(float(value[-1]), float(low[-1]), float(high[-1]), len(patients))
    return Curve(name, np.asarray(x), value[:-1], low[:-1], high[:-1], summary, summary_name)
