"""Score predictions against annotations, per case and over a data set, for all parts that both of them have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from cphloc.config import jsonio
from cphloc.evaluation.prediction import CasePrediction
from cphloc.metrics.bootstrap import Difference, Interval, weighted_band, weighted_bootstrap
from cphloc.metrics.calibration import tempered
from cphloc.metrics.curves import (
    Curve,
    box_reliability_curves,
    froc_curve,
    precision_recall_curves,
    reliability_curves,
    roc_curves,
)
from cphloc.metrics.detection import DetectionCase
from cphloc.metrics.evaluation import (
    Statistic,
    attention_scores,
    classification_statistics,
    detection_scores,
    detection_statistics,
    segmentation_scores,
)
from cphloc.metrics.froc import LUNA16_FP_PER_SCAN, froc_of_boxes
from cphloc.metrics.instances import instance_statistics
from cphloc.metrics.matching import InstanceCase
from cphloc.metrics.summary import CaseScores, Restricted, summarize
from cphloc.registry import catalogue
from cphloc.registry.contract import call_for_number, construct
from cphloc.registry.metrics import is_physical
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.instances import object_masks
from cphloc.structures.merging import of_part
from cphloc.structures.volume import reoriented

FROC_IOU = 0.1
"""Smallest IoU of a true positive in FROC."""


@dataclass(frozen=True)
class ScoredCase:
    """Scores of one case, with the inputs of the metrics that pool all cases.

    Args:
        scores: metrics of this case alone.
        boxes: predicted and annotated boxes, for metrics that rank the boxes of all cases together (AP, FROC).
        labels: predicted probabilities ``(K,)`` and known labels ``(K,)``, for AUC and calibration.
        instances: outlined and annotated objects, for mask AP and panoptic quality.
    """

    scores: CaseScores
    boxes: DetectionCase | None = None
    labels: tuple[np.ndarray, np.ndarray] | None = None
    instances: InstanceCase | None = None


def score_case(
    case: str,
    patient: str,
    prediction: CasePrediction,
    annotation: Annotation,
    geometry: Geometry,
    classes: Mapping[int, str],
    tolerances_mm: Mapping[str, float] = MappingProxyType({}),
) -> ScoredCase:
    """Compute every metric for which both the prediction and the annotation of a case have the necessary parts.

    Args:
        case: id of the case.
        patient: id of the patient.
        prediction: prediction of the model.
        annotation: reference annotation, with weaker annotations derived from it by `Annotation.completed`, in the
            classes of the model (`cphloc.structures.merging.merged_annotation`).
        geometry: grid of both. Metrics in mm or mL are left out if its unit is pixels.
        classes: number 1..K -> name.
        tolerances_mm: see `cphloc.metrics.evaluation.segmentation_scores`.
    """
    scores: dict[str, float] = {}
    labels = None
    facts = {}
    if prediction.mask is not None and annotation.mask is not None:
        of_mask = of_part(classes, "mask")
        known = known_classes(annotation.mask_known, of_mask)
        masks = prediction.mask, annotation.mask
        measured = segmentation_scores(*masks, geometry.spacing_mm, of_mask, tolerances_mm, known=known)
        scores |= {name: v for name, v in measured.items() if geometry.unit == "mm" or not is_physical(name)}
    if prediction.attention is not None and annotation.region is not None and annotation.region.any():
        scores |= _attention_scores(prediction.attention, annotation, geometry)
    boxes = detection_case(prediction, annotation)
    if boxes is not None:
        scores |= detection_scores(boxes, of_part(classes, "boxes"))
    if prediction.probabilities is not None and annotation.label is not None:
        labels = prediction.probabilities, annotation.label
        names = of_part(classes, "labels").values()
        facts = {f"p/{name}": float(p) for name, p in zip(names, prediction.probabilities, strict=True)}
    scores |= plugin_scores(prediction, annotation, geometry, classes)
    instances = None if boxes is None else instance_case(prediction, annotation)
    return ScoredCase(CaseScores(case, patient, scores, facts), boxes, labels, instances)


def _attention_scores(attention: np.ndarray, annotation: Annotation, geometry: Geometry) -> dict[str, float]:
    """Score an attention map in the canonical orientation, in which the last axis is left-right and the first axial."""
    order, flip = geometry.canonical()
    grid = geometry.reoriented(order, flip)
    boxes = None if annotation.boxes is None else geometry.canonical_boxes(annotation.objects[0])
    spacing_mm = grid.spacing_mm if grid.unit == "mm" else None
    region = np.asarray(annotation.region)
    return attention_scores(reoriented(attention, order, flip), reoriented(region, order, flip), spacing_mm, boxes)


def known_classes(known: np.ndarray | None, classes: Mapping[int, str]) -> list[int]:
    """Return the numbers of the classes that were looked for; ``None`` stands for all."""
    return [number for number in classes if known is None or known[number - 1]]


def plugin_scores(
    prediction: CasePrediction, annotation: Annotation, geometry: Geometry, classes: Mapping[int, str]
) -> dict[str, float]:
    """Compute the metrics of plug-ins for one case; arguments as for `score_case`.

    Returns:
        value by name; NaN for metrics that are undefined.

    Raises:
        ContractError: a metric raises an exception or returns something other than a number.
    """
    cards = [card for card in catalogue.cards("metric").values() if card.import_ is not None]
    return {
        card.name: call_for_number(card, construct("metric", card.name, {}), prediction, annotation, geometry, classes)
        for card in cards
    }


@dataclass(frozen=True)
class Scores:
    """Metrics over all cases of a split.

    Args:
        cases: scored cases, in any order.
        classes: number 1..K -> name.
    """

    cases: Sequence[ScoredCase]
    classes: Mapping[int, str]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per case: ``case``, ``patient``, its scores, and its label probabilities as ``p/<class>``."""
        each = [case.scores for case in self.cases]
        return [{"case": c.id, "patient": c.patient, **c.scores, **c.facts} for c in each]

    def values(self) -> dict[str, float]:
        """Compute every metric over all cases, without intervals; metrics of one class are named ``metric/class``."""
        names = dict.fromkeys(name for case in self.cases for name in case.scores.scores)
        means = {name: _mean([case.scores.scores.get(name, np.nan) for case in self.cases]) for name in names}
        return means | {name: statistic(np.ones(len(self.cases))) for name, statistic in self.pooled.items()}

    def intervals(self) -> dict[str, Interval]:
        """Compute every metric over all cases with its 95 % confidence interval, resampled by patient."""
        return summarize([case.scores for case in self.cases], self.pooled)

    def curves(self) -> dict[str, list[Curve]]:
        """Compute curves with 95 % bands.

        Returns:
            curves by kind: ``precision-recall``, ``froc`` and ``box-reliability`` for boxes, ``roc`` and
            ``reliability`` for labels; kinds without data are left out.
        """
        by_kind: dict[str, list[Curve]] = {}
        boxes, labels = self._boxes(), self._labels()
        if boxes:
            cases, patients = list(boxes.values()), self._patients(boxes)
            by_kind["precision-recall"] = precision_recall_curves(cases, of_part(self.classes, "boxes"), patients)
            by_kind["froc"] = [froc_curve(cases, patients)]
            by_kind["box-reliability"] = box_reliability_curves(cases, of_part(self.classes, "boxes"), patients)
        if labels:
            arguments = *_stacked(labels), self._label_names, self._patients(labels)
            by_kind |= {"roc": roc_curves(*arguments), "reliability": reliability_curves(*arguments)}
        return {kind: curves for kind, curves in by_kind.items() if curves}

    def sensitivity_at_fp(self) -> dict[str, dict[str, Any]]:
        """Compute the sensitivity of the boxes at 1/8 to 8 false positives per image, with 95 % intervals by patient.

        Returns:
            false positives per image -> ``value``, ``low``, ``high``; empty without boxes.
        """
        boxes = self._boxes()
        if not boxes:
            return {}
        curve = froc_of_boxes(list(boxes.values()), FROC_IOU)
        band = weighted_band(lambda w: curve.sensitivity_at(LUNA16_FP_PER_SCAN, w), self._patients(boxes))
        rows = zip(LUNA16_FP_PER_SCAN, *band, strict=True)
        return {f"{rate:g}": jsonio.plain({"value": v, "low": low, "high": high}) for rate, v, low, high in rows}

    def calibration_error(self, temperature: float) -> Interval:
        """Compute the expected calibration error after dividing the logits of the probabilities by ``temperature``."""
        labels = self._labels()
        probabilities, known = _stacked(labels)
        statistics = classification_statistics(tempered(probabilities, temperature), known, self._label_names)
        return weighted_bootstrap(statistics["ece"], self._patients(labels))

    @property
    def _label_names(self) -> list[str]:
        return list(of_part(self.classes, "labels").values())

    def _boxes(self) -> dict[int, DetectionCase]:
        return {i: case.boxes for i, case in enumerate(self.cases) if case.boxes is not None}

    def _labels(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return {i: case.labels for i, case in enumerate(self.cases) if case.labels is not None}

    def _patients(self, numbers: Iterable[int]) -> list[str]:
        return [self.cases[i].scores.patient for i in numbers]

    @cached_property
    def pooled(self) -> dict[str, Statistic]:
        """Metrics that pool the boxes or labels of all cases, each restricted to the cases that have them."""
        pooled: dict[str, Statistic] = {}
        boxes, labels = self._boxes(), self._labels()
        if boxes:
            statistics = detection_statistics(list(boxes.values()), of_part(self.classes, "boxes"))
            pooled |= {name: Restricted(statistic, list(boxes)) for name, statistic in statistics.items()}
        outlined = {i: case.instances for i, case in enumerate(self.cases) if case.instances is not None}
        if outlined:
            statistics = instance_statistics(list(outlined.values()), of_part(self.classes, "boxes"))
            pooled |= {name: Restricted(statistic, list(outlined)) for name, statistic in statistics.items()}
        if labels:
            statistics = classification_statistics(*_stacked(labels), self._label_names)
            pooled |= {name: Restricted(statistic, list(labels)) for name, statistic in statistics.items()}
        return pooled


def summary(intervals: Mapping[str, Interval] | Mapping[str, Difference]) -> dict[str, dict[str, Any]]:
    """Convert intervals to JSON values, grouped as ``{"metrics": {...}, "per_class": {class: {...}}}``.

    Undefined values are ``None``.
    """
    per_class: dict[str, dict[str, Any]] = {}
    metrics: dict[str, Any] = {}
    for name, interval in intervals.items():
        metric, _, class_name = name.partition("/")
        (per_class.setdefault(class_name, {}) if class_name else metrics)[metric] = jsonio.plain(interval._asdict())
    return {"metrics": metrics, "per_class": per_class}


def detection_case(prediction: CasePrediction, annotation: Annotation) -> DetectionCase | None:
    """Pair predicted with annotated boxes; ``None`` if either side has none to compare.

    Predicted boxes of classes that nobody looked for in this image are left out: neither right nor wrong.
    """
    detections = prediction.detections
    if detections is None or annotation.boxes is None or annotation.box_classes is None:
        return None
    boxes, scores, classes = detections
    if annotation.boxes_known is not None:
        counted = annotation.boxes_known[classes - 1]
        boxes, scores, classes = boxes[counted], scores[counted], classes[counted]
    return DetectionCase(boxes, scores, classes, annotation.boxes, annotation.box_classes)


def instance_case(prediction: CasePrediction, annotation: Annotation) -> InstanceCase | None:
    """Pair outlined with annotated objects; ``None`` without outlines, or without a mask of every class.

    Arguments and classes that nobody looked for as in `detection_case`.
    """
    objects, numbers = prediction.objects, prediction.box_classes
    classes = annotation.box_classes
    if objects is None or numbers is None or prediction.scores is None or annotation.mask is None or classes is None:
        return None
    if annotation.mask_known is not None and not annotation.mask_known.all():
        return None
    return InstanceCase(objects, prediction.scores, numbers, object_masks(annotation), classes)


def _stacked(labels: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Stack probabilities and labels of all cases, each ``(cases, K)``."""
    return np.stack([probabilities for probabilities, _ in labels.values()]), np.stack([y for _, y in labels.values()])


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
