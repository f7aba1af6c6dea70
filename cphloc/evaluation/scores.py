"""Compare what was found in cases with what is known about them, on every rung that both have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cphloc.metrics.bootstrap import Interval, weighted_bootstrap
from cphloc.metrics.calibration import tempered
from cphloc.metrics.curves import Curve, froc_curve, precision_recall_curves, reliability_curves, roc_curves
from cphloc.metrics.detection import DetectionCase
from cphloc.metrics.evaluation import (
    Statistic,
    attention_scores,
    classification_statistics,
    detection_scores,
    detection_statistics,
    segmentation_scores,
)
from cphloc.metrics.summary import CaseScores, summarize
from cphloc.registry.metrics import is_physical
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry


@dataclass(frozen=True)
class CasePrediction:
    """What a model found in one image, on the grid of its annotation; ``None`` where it does not predict that.

    Args:
        mask: class mask ``(*S)``.
        boxes: ``(n, 2 D)`` edges, with ``scores`` ``(n,)`` and ``box_classes`` ``(n,)``.
        attention: ``(*S)``.
        probabilities: ``(K,)`` of the image's labels.
    """

    mask: np.ndarray | None = None
    boxes: np.ndarray | None = None
    scores: np.ndarray | None = None
    box_classes: np.ndarray | None = None
    attention: np.ndarray | None = None
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class ScoredCase:
    """One case: its scores, and what the metrics over all cases need of it."""

    scores: CaseScores
    boxes: DetectionCase | None = None
    labels: tuple[np.ndarray, np.ndarray] | None = None


def score_case(
    case: str, patient: str, found: CasePrediction, known: Annotation, geometry: Geometry, classes: Mapping[int, str]
) -> ScoredCase:
    """Score one case on every rung that it and the model share.

    Args:
        case, patient: who it is.
        found: by the model.
        known: its annotation, completed down the ladder.
        geometry: grid of both.
        classes: number 1..K -> name.
    """
    scores: dict[str, float] = {}
    boxes = labels = None
    facts = {}
    if found.mask is not None and known.mask is not None:
        measured = segmentation_scores(found.mask, known.mask, geometry.spacing_mm, classes)
        scores |= {name: v for name, v in measured.items() if geometry.unit == "mm" or not is_physical(name)}
    if found.attention is not None and known.region is not None and known.region.any():
        spacing_mm = geometry.spacing_mm if geometry.unit == "mm" else None
        scores |= attention_scores(found.attention, known.region, spacing_mm, known.boxes)
    if found.boxes is not None and known.boxes is not None:
        boxes = DetectionCase(found.boxes, found.scores, found.box_classes, known.boxes, known.box_classes)
        scores |= detection_scores(boxes, classes)
    if found.probabilities is not None and known.label is not None:
        labels = found.probabilities, known.label
        facts = {f"p/{name}": float(p) for name, p in zip(classes.values(), found.probabilities, strict=True)}
    return ScoredCase(CaseScores(case, patient, scores, facts), boxes, labels)


@dataclass(frozen=True)
class Scores:
    """Metrics over a set of scored cases.

    Args:
        cases: scored cases, in any order.
        classes: number 1..K -> name.
    """

    cases: Sequence[ScoredCase]
    classes: Mapping[int, str]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row a case: ``case``, ``patient``, its scores, its probabilities."""
        each = [case.scores for case in self.cases]
        return [{"case": c.id, "patient": c.patient, **c.scores, **c.facts} for c in each]

    def values(self) -> dict[str, float]:
        """Every metric over all cases, by name; ``metric/class`` for single classes."""
        names = dict.fromkeys(name for case in self.cases for name in case.scores.scores)
        means = {name: _mean([case.scores.scores.get(name, np.nan) for case in self.cases]) for name in names}
        return means | {name: statistic(np.ones(len(self.cases))) for name, statistic in self._pooled().items()}

    def intervals(self) -> dict[str, Interval]:
        """Every metric with its 95 % interval by patient."""
        return summarize([case.scores for case in self.cases], self._pooled())

    def curves(self) -> dict[str, list[Curve]]:
        """Curves with bands by patient: ``precision-recall`` and ``froc`` of boxes, ``roc`` and ``reliability`` of
        labels.
        """
        found: dict[str, list[Curve]] = {}
        boxes, labels = self._boxes(), self._labels()
        if boxes:
            cases, patients = list(boxes.values()), self._patients(boxes)
            found["precision-recall"] = precision_recall_curves(cases, self.classes, patients)
            found["froc"] = [froc_curve(cases, patients)]
        if labels:
            probabilities, known = map(np.stack, zip(*labels.values(), strict=True))
            of = probabilities, known, list(self.classes.values()), self._patients(labels)
            found |= {"roc": roc_curves(*of), "reliability": reliability_curves(*of)}
        return {kind: curves for kind, curves in found.items() if curves}

    def calibration_error(self, temperature: float) -> Interval:
        """The ``ece`` that the probabilities would have at another temperature."""
        labels = self._labels()
        probabilities, known = map(np.stack, zip(*labels.values(), strict=True))
        stated = tempered(probabilities, temperature)
        statistic = classification_statistics(stated, known, list(self.classes.values()))["ece"]
        return weighted_bootstrap(statistic, self._patients(labels))

    def _boxes(self) -> dict[int, DetectionCase]:
        return {i: case.boxes for i, case in enumerate(self.cases) if case.boxes is not None}

    def _labels(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return {i: case.labels for i, case in enumerate(self.cases) if case.labels is not None}

    def _patients(self, numbers: Iterable[int]) -> list[str]:
        return [self.cases[i].scores.patient for i in numbers]

    def _pooled(self) -> dict[str, Statistic]:
        """Metrics that no single case has; each looks only at the weights of the cases that it concerns."""
        pooled: dict[str, Statistic] = {}
        boxes, labels = self._boxes(), self._labels()
        if boxes:
            statistics = detection_statistics(list(boxes.values()), self.classes)
            pooled |= {name: _of_some(statistic, list(boxes)) for name, statistic in statistics.items()}
        if labels:
            probabilities, known = map(np.stack, zip(*labels.values(), strict=True))
            statistics = classification_statistics(probabilities, known, list(self.classes.values()))
            pooled |= {name: _of_some(statistic, list(labels)) for name, statistic in statistics.items()}
        return pooled


def summary(intervals: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    """Metrics and per-class metrics, ready for JSON: ``{"metrics": ..., "per_class": ...}``."""
    per_class: dict[str, dict[str, Any]] = {}
    metrics: dict[str, Any] = {}
    for name, found in intervals.items():
        metric, _, class_name = name.partition("/")
        (per_class.setdefault(class_name, {}) if class_name else metrics)[metric] = dict(found._asdict())
    return {"metrics": metrics, "per_class": per_class}


def _of_some(statistic: Statistic, cases: list[int]) -> Statistic:
    return lambda weights: statistic(weights[cases])


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
