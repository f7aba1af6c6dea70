"""Validation during training, on whole preprocessed images (resampled and normalized for the model)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist

from cphloc.data.case import strongest_rung
from cphloc.data.pipeline.cache import PreparedCase
from cphloc.data.pipeline.prepare import PreparedCases
from cphloc.evaluation.prediction import CasePrediction
from cphloc.evaluation.scores import ScoredCase, Scores, score_case
from cphloc.inference.windows import infer
from cphloc.modeling.model import Model
from cphloc.ops.instance_masks import outlined
from cphloc.ops.targets import Prediction
from cphloc.structures.annotation import Annotation, Rung
from cphloc.structures.geometry import Geometry
from cphloc.structures.instances import object_masks
from cphloc.structures.merging import merged_annotation, of_part
from cphloc.structures.padding import Fill

_RUNGS = {
    "mask": Rung.MASK,
    "boxes": Rung.BOXES,
    "box_classes": Rung.BOXES,
    "region": Rung.REGION,
    "label": Rung.LABEL,
}


@dataclass(frozen=True)
class Validation:
    """Result of one validation.

    Args:
        metrics: value of each metric over all cases, by name.
        cases: one row per case, with its id as ``case`` and its metrics.
        scores: the `Scores` behind both, from which curves are drawn; ``None`` in tests of the training loop.
    """

    metrics: dict[str, float]
    cases: list[dict[str, Any]] = field(default_factory=list)
    scores: Scores | None = None


def metric_names(
    gives: Collection[str], rung: Rung | None, unit: Literal["mm", "px"], dims: int, classes: Mapping[int, str]
) -> set[str]:
    """Return the names of the metrics that a validation computes, determined by scoring a synthetic image.

    Args:
        gives: parts that the heads predict: ``mask``, ``boxes``, ``attention``, ``labels``.
        rung: strongest annotation of the validation cases; ``None`` if they have none.
        unit: unit of the voxel sizes; metrics in mm need ``mm``.
        dims: 2 or 3.
        classes: number 1..K -> name.

    >>> sorted(metric_names(["attention"], Rung.LABEL, "mm", 2, {1: "mass"}))
    []
    """
    size = (4,) * dims
    whole = Annotation(mask=np.ones(size, np.uint8)).completed(size, len(classes))
    whole = merged_annotation(whole, classes)
    known = {part: getattr(whole, part) for part, of in _RUNGS.items() if rung is not None and of <= rung}
    predicted = {
        "mask": {"mask": whole.mask},
        "boxes": {"boxes": whole.boxes, "scores": np.ones(1, np.float32), "box_classes": whole.box_classes},
        "objects": {"objects": tuple(object_masks(whole))},
        "attention": {"attention": np.full(size, 1 / 4**dims, np.float32)},
        "labels": {"probabilities": np.full(len(of_part(classes, "labels")), 0.5)},
    }
    parts = {key: value for word in gives for key, value in predicted.get(word, {}).items()}
    geometry = Geometry.regular(size, unit=unit)
    scored = score_case("", "", CasePrediction(**parts), Annotation(**known), geometry, classes)
    return set(Scores([scored], classes).values())


class Validator:
    """Predict and score all validation cases, which are divided among the processes of a distributed training.

    Args:
        cases: preprocessed validation cases.
        classes: number 1..K -> name.
        patch: window size ``(*S)``; larger images are predicted window by window.
        fill: values beyond the edge of an image that is smaller than the window.
        tolerances_mm: see `cphloc.metrics.evaluation.segmentation_scores`.
    """

    def __init__(
        self,
        cases: PreparedCases,
        classes: Mapping[int, str],
        patch: Sequence[int],
        fill: Fill = "zero",
        tolerances_mm: Mapping[str, float] | None = None,
    ) -> None:
        self.cases = cases
        self.classes = classes
        self.patch = tuple(patch)
        self.fill: Fill = fill
        self.tolerances_mm = dict(tolerances_mm or {})

    def __call__(self, model: Model) -> Validation:
        """Compute the metrics of ``model``, which must be in evaluation mode, over the cases of all processes."""
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        scored = [self.score_case(model, i) for i in range(rank, len(self.cases), ranks)]
        if ranks > 1:
            gathered: list[Any] = [None] * ranks
            dist.all_gather_object(gathered, scored)
            scored = [case for part in gathered for case in part]
        scores = Scores(sorted(scored, key=lambda case: case.scores.id), self.classes)
        return Validation(scores.values(), scores.rows, scores)

    def score_case(self, model: Model, number: int) -> ScoredCase:
        """Predict the case with index ``number`` and score it against its annotation."""
        case, patient = self.cases[number], self.cases.cases[number].patient
        strongest = strongest_rung(self.cases.cases)
        annotation = case.annotation.completed(case.image.shape[1:], len(self.classes), strongest)
        annotation = merged_annotation(annotation, self.classes)
        predicted = self.predict(model, case)
        return score_case(case.id, patient, predicted, annotation, case.geometry, self.classes, self.tolerances_mm)

    def predict(self, model: Model, case: PreparedCase) -> CasePrediction:
        """Predict one case, on the grid of the preprocessed image."""
        image = torch.from_numpy(np.array(case.image)).to(next(model.parameters()).device)
        return self._case_prediction(infer(model, image[None], self.patch, fill=self.fill), image.shape[1:])

    @staticmethod
    def _case_prediction(predictions: Mapping[str, Prediction], extent: Sequence[int]) -> CasePrediction:
        """Join the predictions of all heads for one image of ``extent`` voxels."""
        parts: dict[str, Any] = {}
        for prediction in predictions.values():
            if prediction.mask_probabilities is not None:
                parts["mask"] = prediction.mask_probabilities[0].argmax(0).cpu().numpy().astype(np.uint8)
            if prediction.detections is not None:
                boxes = prediction.detections[0]
                parts |= {"boxes": boxes.boxes.cpu().numpy(), "scores": boxes.scores.cpu().numpy()}
                parts["box_classes"] = boxes.classes.cpu().numpy()
                if boxes.masks is not None:
                    drawn = zip(boxes.masks.float(), boxes.boxes.float(), strict=True)
                    parts["objects"] = tuple(outlined(mask, box, extent) for mask, box in drawn)
            if prediction.attention is not None:
                parts["attention"] = prediction.attention[0].cpu().numpy()
            if prediction.label_probabilities is not None:
                parts["probabilities"] = prediction.label_probabilities[0].cpu().numpy()
        return CasePrediction(**parts)
