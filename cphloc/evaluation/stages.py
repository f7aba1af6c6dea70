"""Errors of the stages of a pipeline told apart: what each crop misses, and the last stage in the true crop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cphloc.config import jsonio
from cphloc.data.case import Case
from cphloc.evaluation.files import all_boxes
from cphloc.evaluation.prediction import case_prediction
from cphloc.evaluation.scores import ScoredCase, Scores, score_case, summary
from cphloc.inference.crops import box_edges, crop_around, mask_edges
from cphloc.inference.localization import Localization
from cphloc.inference.pipeline import Pipeline
from cphloc.inference.stage_outcome import StageOutcome
from cphloc.metrics.bootstrap import interval
from cphloc.recipe.stages import Crop
from cphloc.structures.annotation import Annotation
from cphloc.structures.volume import Volume

CROP_METRICS = {
    "inside": "share of the annotated objects inside the crop; what is outside cannot be found",
    "iou": "IoU of the crop and the crop around the annotated objects",
    "missed": "share of cases in which nothing was found to crop to, although there is an object",
}
"""Meaning of each metric of a crop."""


class StageErrors:
    """Collects the errors of each stage over the cases of an evaluation.

    Args:
        localizer: the pipeline.
    """

    def __init__(self, localizer: Pipeline) -> None:
        self._localizer = localizer
        self._stages = localizer.recipe.stages
        *_, self._last = self._stages
        self._rows: list[dict[str, Any]] = []
        self._oracle: list[ScoredCase] = []

    def add(
        self, case: Case, result: Localization, scored: ScoredCase, volume: Volume, annotation: Annotation
    ) -> dict[str, float]:
        """Measure one case; returns the metrics of its crops as ``<stage>_<metric>``.

        Args:
            case: the case.
            result: its prediction.
            scored: scores of the prediction.
            volume: its image.
            annotation: its annotation, in the classes of the pipeline.
        """
        row: dict[str, float] = {}
        for outcome in result.stages:
            crop = self._stages[outcome.name].crop
            row |= {f"{outcome.name}_ran": float(outcome.ran)}
            if crop is not None:
                found = _crop_errors(outcome, crop, annotation, volume, self._localizer.classes)
                row |= {f"{outcome.name}_{name}": value for name, value in found.items()}
        self._rows.append({"patient": case.patient, **row})
        last = self._stages[self._last]
        if last.crop is not None or last.when is not None:
            self._oracle.append(self._in_true_crop(case, scored, volume, annotation, last.crop))
        return row

    def _in_true_crop(
        self, case: Case, scored: ScoredCase, volume: Volume, annotation: Annotation, crop: Crop | None
    ) -> ScoredCase:
        """Score the last stage in the crop around the annotated objects; a case without any keeps its scores."""
        localizer = self._localizer
        edges = true_edges(annotation, crop, localizer.classes)
        if edges is None:
            return scored
        result = localizer.predict_within(volume, edges, all_boxes(localizer))
        prediction = case_prediction(result, localizer.classes)
        of_case, tolerances = (case.id, case.patient), localizer.recipe.nsd_tolerance_mm
        return score_case(*of_case, prediction, annotation, volume.geometry, localizer.classes, tolerances)

    def facts(self) -> dict[str, Any]:
        """Return ``stages`` (by name: entry, cases in which it ran, errors of its crop) and ``oracle``.

        ``oracle`` holds the metrics of the last stage in the true crop, as `summary` gives them; ``None`` where that
        stage has neither a crop nor a condition.
        """
        stages = {name: self._stage_facts(name) for name in self._stages}
        oracle = summary(Scores(self._oracle, self._localizer.classes).intervals()) if self._oracle else None
        return {"stages": stages, "oracle": oracle}

    def _stage_facts(self, name: str) -> dict[str, Any]:
        patients = [row["patient"] for row in self._rows]
        ran = sum(row[f"{name}_ran"] for row in self._rows)
        facts = {"entry": self._stages[name].frozen.entry, "cases": len(self._rows), "ran": int(ran), "crop": None}
        if self._stages[name].crop is not None:
            values = {metric: [row[f"{name}_{metric}"] for row in self._rows] for metric in CROP_METRICS}
            facts["crop"] = {m: jsonio.plain(interval(v, patients)._asdict()) for m, v in values.items()}
        return facts


def true_edges(annotation: Annotation, crop: Crop | None, classes: Mapping[int, str]) -> np.ndarray | None:
    """Return the bounding box ``(2, D)`` of the annotated objects, in voxels; ``None`` where there is none.

    Args:
        annotation: the annotation.
        crop: classes that it names count, if the data set has any of them; else all do.
        classes: number 1..K -> name.
    """
    named = [number for number, name in classes.items() if crop is not None and name in (crop.classes or ())]
    numbers = named or list(classes)
    if annotation.mask is not None:
        return mask_edges(np.isin(annotation.mask, numbers))
    boxes, box_classes = annotation.objects
    chosen = boxes[np.isin(box_classes, numbers)]
    return box_edges(chosen) if len(chosen) else None


def _crop_errors(
    outcome: StageOutcome, crop: Crop, annotation: Annotation, volume: Volume, classes: Mapping[int, str]
) -> dict[str, float]:
    """Return `CROP_METRICS` of one case; NaN without an annotated object."""
    edges = true_edges(annotation, crop, classes)
    if edges is None:
        return dict.fromkeys(CROP_METRICS, math.nan)
    if not outcome.ran:
        return {"inside": 0.0, "iou": 0.0, "missed": float(outcome.missed)}
    region = np.array([outcome.start, np.add(outcome.start, outcome.shape)])
    start, shape = crop_around(edges, crop, volume.geometry)
    true = np.array([start, np.add(start, shape)])
    shared = _size(np.array([np.maximum(region[0], true[0]), np.minimum(region[1], true[1])]))
    iou = shared / (_size(region) + _size(true) - shared)
    return {"inside": _inside(annotation, region, classes), "iou": iou, "missed": float(outcome.missed)}


def _inside(annotation: Annotation, region: np.ndarray, classes: Mapping[int, str]) -> float:
    """Share of the annotated voxels inside a region; of annotated boxes, the mean share of each."""
    if annotation.mask is not None:
        objects = np.isin(annotation.mask, list(classes))
        return float(objects[tuple(slice(a, b) for a, b in region.T)].sum() / objects.sum())
    shares = []
    for box in annotation.objects[0]:
        low, high = np.split(box, 2)
        shares.append(_size(np.array([np.maximum(low, region[0]), np.minimum(high, region[1])])) / _size([low, high]))
    return float(np.mean(shares))


def _size(edges: Any) -> float:
    """Volume of a box of lower and upper edges; 0 where they are the wrong way round."""
    return float(np.prod(np.clip(np.subtract(edges[1], edges[0]), 0, None)))
