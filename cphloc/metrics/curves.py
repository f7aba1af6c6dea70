"""Precision-recall, FROC, ROC and reliability curves with 95 % bootstrap bands by patient, to draw or write as CSV."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cphloc.config.tables import write_table
from cphloc.files import atomic
from cphloc.metrics import classification, detection
from cphloc.metrics.bootstrap import Interval, weighted_band
from cphloc.metrics.box_calibration import box_reliability, detection_calibration_error
from cphloc.metrics.detection import DetectionCase
from cphloc.metrics.froc import LUNA16_FP_PER_SCAN, froc_of_boxes

RESAMPLES = 500
"""Number of bootstrap resamples of each band."""

FP_PER_SCAN = np.geomspace(1 / 8, 8, 49)
"""False positives per scan at which the FROC curve is evaluated; every eighth is an operating point of LUNA16."""


@dataclass(frozen=True)
class Curve:
    """A curve with a pointwise 95 % band and its summary statistic.

    Args:
        name: name of the class, or ``all classes``.
        x: ``(points,)`` positions on the horizontal axis.
        y: ``(points,)`` values; NaN where undefined.
        low: ``(points,)`` lower ends of the 95 % intervals of ``y``.
        high: ``(points,)`` upper ends of the 95 % intervals of ``y``.
        summary: summary statistic of the curve, such as its area, with its 95 % interval.
        summary_name: name of the summary statistic, such as ``AP50`` or ``AUC``.
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
    """Compute the precision at COCO's 101 recalls for each class that has reference boxes; the summary is the AP.

    Args:
        cases: detections and references of each image.
        classes: class names by class number.
        patients: patient of each case.
        iou: smallest IoU of a true positive.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])
    >>> precision_recall_curves([case], {1: "cell"}, ["a"])[0].summary.value
    1.0
    """
    curves = []
    for label, name in classes.items():
        matches = detection.match(cases, label, [iou])
        if not matches.references.any():
            continue

        def _precision(weights: np.ndarray, matches: detection.Matches = matches) -> np.ndarray:
            ((recall, precision),) = detection.precision_recall(matches, weights)
            return detection.precision_at(detection.COCO_RECALLS, recall, precision)

        curves.append(_curve(name, detection.COCO_RECALLS, _precision, np.mean, patients, f"AP{round(100 * iou)}"))
    return curves


def froc_curve(cases: Sequence[DetectionCase], patients: Sequence[Hashable], iou: float = 0.1) -> Curve:
    """Compute the sensitivity over all classes at 1/8 to 8 false positives per image; the summary is the CPM.

    The CPM (competition performance metric of LUNA16) is the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8.

    Args:
        cases: detections and references of each image.
        patients: patient of each case.
        iou: smallest IoU of a true positive.

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
    """Compute the highest sensitivity at 101 false positive rates from 0 to 1 for each class; the summary is the AUC.

    Args:
        probabilities: ``(cases, K)`` predicted probabilities in [0, 1].
        labels: ``(cases, K)``, 0 or 1; NaN where unknown.
        classes: K class names.
        patients: patient of each case.

    >>> roc_curves(np.array([[0.9], [0.2]]), np.array([[1], [0]]), ["cancer"], "ab")[0].summary.value
    1.0
    """
    rates = np.linspace(0, 1, 101)

    def _sensitivity_of_class(k: int) -> Callable[[np.ndarray], np.ndarray]:
        p, y = probabilities[:, k], labels[:, k]

        def _sensitivity(weights: np.ndarray) -> np.ndarray:
            curve = classification.roc(p, y, weights)
            if np.isnan(curve.false_positive_rate).any():
                return np.full(len(rates) + 1, np.nan)
            last = np.searchsorted(curve.false_positive_rate, rates + 1e-12, side="right") - 1
            return np.append(curve.true_positive_rate[last], classification.auc(p, y, weights))

        return _sensitivity

    return [_band_and_summary(name, rates, _sensitivity_of_class(k), patients, "AUC") for k, name in enumerate(classes)]


def reliability_curves(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], patients: Sequence[Hashable], bins: int = 10
) -> list[Curve]:
    """Compute the fraction of positives against the mean predicted probability for each class; the summary is the ECE.

    Args:
        probabilities: ``(cases, K)`` predicted probabilities in [0, 1].
        labels: ``(cases, K)``, 0 or 1; NaN where unknown.
        classes: K class names.
        patients: patient of each case.
        bins: number of equal-width bins of probability, one point of the curve each.

    >>> reliability_curves(np.array([[0.9], [0.2]]), np.array([[1], [0]]), ["cancer"], "ab")[0].y[9].item()
    1.0
    """
    curves = []
    for k, name in enumerate(classes):
        p, y = probabilities[:, k], labels[:, k]

        def _frequency(weights: np.ndarray, p: np.ndarray = p, y: np.ndarray = y) -> np.ndarray:
            error = classification.expected_calibration_error(p, y, bins, weights)
            return np.append(classification.reliability(p, y, bins, weights).frequency, error)

        confidence = classification.reliability(p, y, bins).confidence
        curves.append(_band_and_summary(name, confidence, _frequency, patients, "ECE"))
    return curves


def box_reliability_curves(
    cases: Sequence[DetectionCase],
    classes: Mapping[int, str],
    patients: Sequence[Hashable],
    iou: float = 0.5,
    bins: int = 10,
) -> list[Curve]:
    """Compute the precision of the boxes against their mean score for each class; the summary is the D-ECE.

    Args:
        cases: detections and references of each image.
        classes: class names by class number.
        patients: patient of each case.
        iou: smallest IoU of a true positive.
        bins: number of equal-width bins of scores, one point of the curve each.

    >>> case = DetectionCase([[0, 0, 4, 4]], [0.95], [1], [[0, 0, 4, 3]], [1])
    >>> box_reliability_curves([case], {1: "cell"}, ["a"])[0].y[9].item()
    1.0
    """
    curves = []
    for label, name in classes.items():
        matches = detection.match(cases, label, [iou])
        if not len(matches.scores):
            continue

        def _precision(weights: np.ndarray, matches: detection.Matches = matches) -> np.ndarray:
            error = detection_calibration_error(matches, bins, weights)
            return np.append(box_reliability(matches, bins, weights).frequency, error)

        score = box_reliability(matches, bins).confidence
        curves.append(_band_and_summary(name, score, _precision, patients, "D-ECE"))
    return curves


def write_points(path: Path, curves: Sequence[Curve]) -> None:
    """Write the points of curves to a CSV file with columns ``class,x,y,low,high``; undefined values stay empty.

    >>> import tempfile
    >>> curve = Curve("a", *(np.array([v]) for v in (0.5, 1.0, 0.9, float("nan"))), Interval(1, 1, 1, 1), "AP")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_points(Path(folder) / "points.csv", [curve])
    ...     print((Path(folder) / "points.csv").read_text().split())
    ['class,x,y,low,high', 'a,0.5,1,0.9,']
    """
    rows = (
        (curve.name, *("" if np.isnan(v) else f"{v:.6g}" for v in point))
        for curve in curves
        for point in zip(curve.x, curve.y, curve.low, curve.high, strict=True)
    )
    with atomic(path) as temporary:
        write_table(temporary, ("class", "x", "y", "low", "high"), rows, newline="\n")


def _curve(
    name: str,
    x: np.ndarray,
    y: Callable[[np.ndarray], np.ndarray],
    summary: Callable[[np.ndarray], float],
    patients: Sequence[Hashable],
    summary_name: str,
) -> Curve:
    """Compute a curve from its values ``y`` and a summary of these, both for given weights of the cases."""

    def _with_summary(weights: np.ndarray) -> np.ndarray:
        values = y(weights)
        return np.append(values, summary(values))

    return _band_and_summary(name, x, _with_summary, patients, summary_name)


def _band_and_summary(
    name: str,
    x: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    patients: Sequence[Hashable],
    summary_name: str,
) -> Curve:
    """Compute a curve from a statistic that returns its values followed by their summary, ``(points + 1,)``."""
    value, low, high = weighted_band(statistic, patients, RESAMPLES)
    summary = Interval(float(value[-1]), float(low[-1]), float(high[-1]), len(patients))
    return Curve(name, np.asarray(x), value[:-1], low[:-1], high[:-1], summary, summary_name)
