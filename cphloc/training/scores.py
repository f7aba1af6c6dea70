"""Compare what was found in cases with what is known about them, whatever the rung: masks, boxes, attention, labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from cphloc.annotation import Annotation
from cphloc.geometry import Geometry
from cphloc.metrics.attention import mass_in_region, pointing
from cphloc.metrics.bootstrap import Interval, interval, weighted_bootstrap
from cphloc.metrics.classification import auc
from cphloc.metrics.detection import DetectionCase, Matches, average_precision, match
from cphloc.metrics.froc import Froc, Scan, hits_by_iou
from cphloc.metrics.segmentation import dice, volume_error_ml
from cphloc.metrics.surface import surface_distances

NSD_TOLERANCE_MM = 1.0
"""Surfaces nearer than this agree."""

IOU_THRESHOLDS = {2: np.arange(0.5, 0.951, 0.05), 3: np.arange(0.1, 0.501, 0.05)}
"""Thresholds that ``map`` averages over: COCO's in 2-D; nnDetection's in 3-D, where a shift costs more overlap."""

HIT_IOU = 0.1
"""Overlap at which a box counts as a hit in FROC."""


@dataclass(frozen=True)
class Found:
    """What a model found in one image, on the grid of its annotation; ``None`` where it does not predict that.

    Args:
        mask: class mask ``(*S)``.
        boxes: ``(n, 2 D)`` edges, with ``scores`` ``(n,)`` and ``box_classes`` ``(n,)``.
        attention: ``(*S)``.
        probabilities: ``(K,)``.
    """

    mask: np.ndarray | None = None
    boxes: np.ndarray | None = None
    scores: np.ndarray | None = None
    box_classes: np.ndarray | None = None
    attention: np.ndarray | None = None
    probabilities: np.ndarray | None = None


@dataclass
class Scores:
    """Scores of a set of cases: one row a case, and the metrics over all of them.

    A case is scored on every rung that it and the model share; the rest stays empty.

    Args:
        classes: number 1..K -> name.
    """

    classes: Mapping[int, str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    boxes: dict[int, DetectionCase] = field(default_factory=dict)
    labels: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def add(self, case: str, patient: str, found: Found, known: Annotation, geometry: Geometry) -> None:
        """Score one case.

        Args:
            case, patient: who it is.
            found: by the model.
            known: its annotation, completed down the ladder.
            geometry: grid of both.
        """
        number = len(self.rows)
        row: dict[str, Any] = {"case": case, "patient": patient}
        if found.mask is not None and known.mask is not None:
            row |= mask_scores(found.mask, known.mask, self.classes, geometry)
        if found.attention is not None and known.region is not None and known.region.any():
            row["attention_mass"] = mass_in_region(found.attention, known.region)
            row["pointing"] = pointing(found.attention, known.region)
        if found.boxes is not None and known.boxes is not None:
            there = (known.boxes, known.box_classes)
            self.boxes[number] = DetectionCase(found.boxes, found.scores, found.box_classes, *there)
            row |= {"boxes_found": len(found.boxes), "boxes_there": len(known.boxes)}
        if found.probabilities is not None and known.label is not None:
            self.labels[number] = (found.probabilities, known.label)
            row |= {f"p/{name}": float(p) for name, p in zip(self.classes.values(), found.probabilities, strict=True)}
        self.rows.append(row)

    def values(self) -> dict[str, float]:
        """Every metric over all cases, by name; ``metric/class`` for single classes."""
        pooled = {name: statistic(np.ones(len(self.rows))) for name, statistic in self._pooled().items()}
        return {name: _mean(self._column(name)) for name in self._per_case()} | pooled

    def intervals(self) -> dict[str, Interval]:
        """Every metric with its 95 % interval by patient."""
        patients = [row["patient"] for row in self.rows]
        pooled = {name: weighted_bootstrap(stat, patients) for name, stat in self._pooled().items()}
        return {name: interval(self._column(name), patients) for name in self._per_case()} | pooled

    def _per_case(self) -> list[str]:
        names = dict.fromkeys(name for row in self.rows for name in row)
        return [n for n in names if n not in ("case", "patient", "boxes_found", "boxes_there") and n[:2] != "p/"]

    def _column(self, name: str) -> list[float]:
        return [row.get(name, np.nan) for row in self.rows]

    def _pooled(self) -> dict[str, Callable[[np.ndarray], float]]:
        """Metrics that no single case has, as functions of how often each case counts."""
        pooled: dict[str, Callable[[np.ndarray], float]] = {}
        if self.boxes:
            pooled |= self._detection()
        if self.labels:
            pooled |= _by_class("auc", self.classes, {c: partial(self._auc, c) for c in self.classes})
        return pooled

    def _detection(self) -> dict[str, Callable[[np.ndarray], float]]:
        dims = next(iter(self.boxes.values())).boxes.shape[1] // 2
        thresholds = IOU_THRESHOLDS[dims]
        chosen = np.fromiter(self.boxes, int)
        matches = {c: match(list(self.boxes.values()), c, thresholds) for c in self.classes}
        froc = {c: Froc([_scan(case, c) for case in self.boxes.values()]) for c in self.classes}
        at = {"ap50": [int(np.argmin(np.abs(thresholds - 0.5)))], "map": list(range(len(thresholds)))}
        if dims == 3:
            at = {"ap10": [0], **at}
        pooled = {
            name: _by_class(name, self.classes, {c: partial(_ap, matches[c], which, chosen) for c in self.classes})
            for name, which in at.items()
        }
        pooled["froc"] = _by_class("froc", self.classes, {c: partial(_cpm, froc[c], chosen) for c in self.classes})
        return {name: statistic for group in pooled.values() for name, statistic in group.items()}

    def _auc(self, number: int, weights: np.ndarray) -> float:
        known = [
            (w, p[number - 1], y[number - 1]) for w, (p, y) in self._weighted(weights) if not np.isnan(y[number - 1])
        ]
        if not known:
            return float("nan")
        weight, probability, label = map(np.array, zip(*known, strict=True))
        return auc(probability, label, weight)

    def _weighted(self, weights: np.ndarray) -> list[tuple[float, tuple[np.ndarray, np.ndarray]]]:
        return [(weights[number], pair) for number, pair in self.labels.items() if weights[number]]


def mask_scores(
    predicted: np.ndarray, truth: np.ndarray, classes: Mapping[int, str], geometry: Geometry
) -> dict[str, float]:
    """Scores of one mask: ``metric`` is the mean over classes, ``metric/class`` each of several.

    Args:
        predicted: class mask ``(*S)``.
        truth: class mask ``(*S)``; 255 counts nowhere.
        classes: number 1..K -> name.
        geometry: grid of both.

    Returns:
        ``dice``; where the image has a physical size also ``hd95_mm``, ``nsd`` at 1 mm and, in 3-D,
        ``volume_error_ml`` (predicted minus true). A class that both lack has no score (NaN).
    """
    by_class = {name: _class_scores(predicted, truth, number, geometry) for number, name in classes.items()}
    metrics = list(next(iter(by_class.values())))
    means = {metric: _mean([scores[metric] for scores in by_class.values()]) for metric in metrics}
    if len(classes) == 1:
        return means
    return means | {f"{metric}/{name}": by_class[name][metric] for metric in metrics for name in by_class}


def summary(intervals: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    """Metrics and per-class metrics, ready for JSON: ``{"metrics": ..., "per_class": ...}``."""
    per_class: dict[str, dict[str, Any]] = {}
    metrics: dict[str, Any] = {}
    for name, found in intervals.items():
        metric, _, class_name = name.partition("/")
        (per_class.setdefault(class_name, {}) if class_name else metrics)[metric] = dict(found._asdict())
    return {"metrics": metrics, "per_class": per_class}


def _class_scores(predicted: np.ndarray, truth: np.ndarray, number: int, geometry: Geometry) -> dict[str, float]:
    scores = {"dice": dice(predicted, truth, number)}
    if geometry.unit == "mm":
        surfaces = surface_distances(predicted, truth, geometry.spacing_mm, number)
        scores |= {"hd95_mm": surfaces.hausdorff(95), "nsd": surfaces.dice(NSD_TOLERANCE_MM)}
        if geometry.dims == 3:
            scores["volume_error_ml"] = volume_error_ml(predicted, truth, geometry.spacing_mm, number)
    return scores


def _by_class(name: str, classes: Mapping[int, str], statistics: Mapping[int, Callable]) -> dict[str, Callable]:
    """A metric as the mean over classes and, where there are several, of each class."""
    mean = {name: lambda weights: _mean([statistic(weights) for statistic in statistics.values()])}
    return mean | {f"{name}/{classes[c]}": s for c, s in statistics.items()} if len(classes) > 1 else mean


def _ap(matches: Matches, which: list[int], chosen: np.ndarray, weights: np.ndarray) -> float:
    return _mean(list(average_precision(matches, weights=weights[chosen])[which]))


def _cpm(froc: Froc, chosen: np.ndarray, weights: np.ndarray) -> float:
    return froc.score(weights=weights[chosen]) if weights[chosen].any() else float("nan")


def _scan(case: DetectionCase, number: int) -> Scan:
    found, there = case.classes == number, case.reference_classes == number
    return Scan(case.scores[found], hits_by_iou(case.boxes[found], case.reference_boxes[there], HIT_IOU))


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
