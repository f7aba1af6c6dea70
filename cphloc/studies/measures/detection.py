"""Measures of detection: by number of objects, by object size, and by method of non-maximum suppression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch

from cphloc.config.argument_types import NonNegativeFloat, Plain, PositiveInt
from cphloc.evaluation.prediction import CasePrediction
from cphloc.metrics import detection
from cphloc.metrics.attention import peaks
from cphloc.metrics.detection import DetectionCase
from cphloc.modeling.build import build_model
from cphloc.ops.boxes import overlap_matrix
from cphloc.ops.nms import nms, soft_nms
from cphloc.ops.weighted_box_clustering import weighted_box_clustering
from cphloc.studies.measured import Trained, Values, required


class RecallByCount:
    """Recall of objects by the number of objects in the image; one variant for each number.

    Candidates are the peaks of attention or the centres of boxes that score at least half of the best one in the
    image. An object is detected where a candidate is inside its box. This definition applies equally to attention
    models and to detectors.

    Args:
        counts: numbers of objects per image.
    """

    def __init__(self, counts: Sequence[PositiveInt] = (1, 2, 3, 4)) -> None:
        self.counts = list(counts)

    def __call__(self, trained: Trained) -> Values:
        """Return ``lesion_recall`` and ``false_candidates``, each averaged over images."""
        by_count: dict[int, list[tuple[float, float]]] = {count: [] for count in self.counts}
        for case, found in trained.predictions("test"):
            boxes = required(trained.annotation(case).boxes, "boxes")
            if len(boxes) in by_count:
                by_count[len(boxes)].append(hits(candidates(found), boxes))
        return {
            f"{count} objects": dict(zip(("lesion_recall", "false_candidates"), np.mean(rows, 0), strict=True))
            for count, rows in by_count.items()
            if rows
        }


def candidates(found: CasePrediction, share: float = 0.5) -> np.ndarray:
    """Return the positions ``(n, D)`` of detections or attention peaks that score at least ``share`` of the best."""
    if found.boxes is None or found.scores is None:
        return peaks(required(found.attention, "a model with boxes or attention"), share)[0]
    sure = found.scores >= share * found.scores.max(initial=0.0)
    lo, hi = np.split(found.boxes[sure], 2, axis=1)
    return (lo + hi) / 2


def hits(positions: np.ndarray, boxes: np.ndarray) -> tuple[float, float]:
    """Return the fraction of boxes that contain a position, and the number of positions outside all boxes.

    >>> hits(np.array([[1.0, 1.0], [1.5, 1.0], [9.0, 9.0]]), np.array([[0, 0, 2, 2], [4, 4, 6, 6]]))
    (0.5, 1.0)
    """
    lo, hi = np.split(np.asarray(boxes, float), 2, axis=1)
    inside = np.all((positions[:, None] >= lo) & (positions[:, None] < hi), axis=-1)
    return float(np.any(inside, axis=0).mean()), float(np.sum(~np.any(inside, axis=1)))


class PrecisionBySize:
    """AP at an IoU of 0.5 for objects of each size; a box of another size counts neither way (COCO's area ranges).

    Args:
        edges: limits between the size ranges in voxels: ``[6, 10]`` gives small, medium and large.
    """

    def __init__(self, edges: Sequence[NonNegativeFloat] = (6.0, 10.0)) -> None:
        self.edges = [0.0, *edges, float("inf")]

    def __call__(self, trained: Trained) -> Values:
        """Return ``ap50_<range>`` and ``recall50_<range>``, such as ``ap50_small``."""
        cases = detection_cases(trained)
        names = ("small", "medium", "large") if len(self.edges) == 4 else [f"from {low:g}" for low in self.edges[:-1]]
        found = {}
        for name, span in zip(names, pairwise(self.edges), strict=True):
            matches = [detection.match([within(case, *span) for case in cases], 1, [0.5])]
            found[f"ap50_{name}"] = detection.mean_average_precision(matches)
            found[f"recall50_{name}"] = detection.recall(matches)
        return {"": found}


def within(case: DetectionCase, low: float, high: float) -> DetectionCase:
    """Limit a case to objects whose size is at least ``low`` and below ``high`` voxels; other objects are ignored.

    The size of a box is the geometric mean of its edge lengths.
    """
    there = _sizes(case.reference_boxes)
    ignored = (there < low) | (there >= high)
    sizes = _sizes(case.boxes)
    overlapping = greatest_overlap(case.boxes, case.reference_boxes[~ignored]) >= 0.5
    kept = overlapping | ((sizes >= low) & (sizes < high))
    parts = case.boxes[kept], case.scores[kept], case.classes[kept]
    return DetectionCase(*parts, case.reference_boxes, case.reference_classes, ignored)


def greatest_overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute the greatest IoU ``(n,)`` of each box with any of the others; 0 where there are no others."""
    if not len(others) or not len(boxes):
        return np.zeros(len(boxes))
    return overlap_matrix(torch.as_tensor(boxes).float(), torch.as_tensor(others).float()).numpy().max(1)


def _sizes(boxes: np.ndarray) -> np.ndarray:
    lo, hi = np.split(np.asarray(boxes, float), 2, axis=1)
    return np.prod(np.maximum(hi - lo, 0), axis=1) ** (1 / lo.shape[1])


def detection_cases(trained: Trained) -> list[DetectionCase]:
    """Collect detections and annotated boxes of the test cases."""
    cases = []
    for case, found in trained.predictions("test"):
        known = trained.annotation(case)
        parts = (found.boxes, found.scores, found.box_classes, known.boxes, known.box_classes)
        cases.append(DetectionCase(*(required(part, "a model with boxes, and annotated boxes") for part in parts)))
    return cases


class FirstLoss:
    """Mean loss of the untrained model on its first four training batches, which depends on its initialization."""

    def __call__(self, trained: Trained) -> Values:
        """Return ``first_loss``."""
        torch.manual_seed(trained.seed)
        model = build_model(trained.recipe)
        with torch.no_grad():
            losses = [
                float(model.loss(model.outputs(batch.image), batch.targets)["loss"])
                for batch in islice(trained.pipeline.batches(trained.recipe.train.batch), 4)
            ]
        return {"": {"first_loss": float(np.mean(losses))}}


class CentreError:
    """Mean distance in voxels from the centre of the best box to the nearest object centre, over cases with objects.

    Args:
        data: arguments of the data set that differ from those of the training.
        variant: name of the variant that the metric is reported for; empty for the arm itself.
    """

    def __init__(self, data: Mapping[str, Plain] | None = None, variant: str = "") -> None:
        self.data, self.variant = dict(data or {}), variant

    def __call__(self, trained: Trained) -> Values:
        """Return ``centre_error`` in voxels; a case without detections counts as half the diagonal of the image."""
        errors = []
        for case, found in trained.predictions("test", self.data):
            boxes = required(trained.annotation(case).boxes, "boxes")
            if len(boxes):
                centres = (boxes[:, : boxes.shape[1] // 2] + boxes[:, boxes.shape[1] // 2 :]) / 2
                errors.append(_error(found, centres, case.image.shape[1:]))
        return {self.variant: {"centre_error": float(np.mean(errors))}}


def _error(found: CasePrediction, centres: np.ndarray, size: Sequence[int]) -> float:
    boxes, scores = (required(part, "a model with boxes") for part in (found.boxes, found.scores))
    if not len(boxes):
        return float(np.linalg.norm(size)) / 2
    lo, hi = np.split(boxes[scores.argmax()], 2)
    return float(np.linalg.norm((lo + hi) / 2 - centres, axis=1).min())


class Suppression:
    """AP of the same detections without suppression, with NMS, with soft-NMS, and combined with a mirrored view."""

    def __call__(self, trained: Trained) -> Values:
        """Return ``ap50`` and the mean number of ``boxes`` per image for each method."""
        head: Any = next(iter(trained.model.heads.values()))
        chosen, head.suppression = head.suppression, replace(head.suppression, iou=1.0)
        plain = detection_cases(trained)
        head.suppression = chosen
        suppressed = detection_cases(trained)
        views = mirrored(trained)
        ways = {
            "none": plain,
            "nms": suppressed,
            "soft nms": [_softly(case) for case in plain],
            "mirrored views, nms": [_joined(*view, None) for view in zip(suppressed, views, strict=True)],
            "mirrored views, wbc": [_joined(*view, 2) for view in zip(suppressed, views, strict=True)],
        }
        return {
            name: {"ap50": _ap50(cases), "boxes": float(np.mean([len(c.boxes) for c in cases]))}
            for name, cases in ways.items()
        }


def mirrored(trained: Trained) -> list[DetectionCase]:
    """Predict mirrored test images and mirror the results back."""
    model, cases = trained.model, []
    for case in trained.pipeline.cases("test"):
        width = case.image.shape[-1]
        image = torch.from_numpy(np.array(case.image))[None].flip(-1)
        with torch.inference_mode():
            prediction = next(iter(model.decode(model.outputs(image), tuple(image.shape[2:])).values()))
        found = required(prediction.detections, "a model with boxes")[0]
        boxes, dims = found.boxes.numpy().copy(), image.ndim - 2
        boxes[:, [dims - 1, 2 * dims - 1]] = width - boxes[:, [2 * dims - 1, dims - 1]]
        known = trained.annotation(case)
        truth = (required(part, "annotated boxes") for part in (known.boxes, known.box_classes))
        cases.append(DetectionCase(boxes, found.scores.numpy(), found.classes.numpy(), *truth))
    return cases


def _joined(one: DetectionCase, other: DetectionCase, views: int | None) -> DetectionCase:
    """Combine detections of two views of a case by NMS, or by weighted box clustering where ``views`` is given."""
    boxes, scores, classes = (
        torch.as_tensor(np.concatenate([getattr(one, name), getattr(other, name)]))
        for name in ("boxes", "scores", "classes")
    )
    if views is None:
        kept = nms(boxes.float(), scores.float(), 0.5, classes)
        boxes, scores, classes = boxes[kept], scores[kept], classes[kept]
    else:
        covering = torch.full((len(boxes),), views)
        joined = weighted_box_clustering(boxes.float(), scores.float(), classes, covering, torch.ones(len(boxes)), 0.3)
        boxes, scores, classes = joined.boxes, joined.scores, joined.classes
    found = boxes.numpy(), scores.numpy(), classes.numpy()
    return DetectionCase(*found, one.reference_boxes, one.reference_classes)


def _softly(case: DetectionCase) -> DetectionCase:
    boxes, scores, classes = map(torch.as_tensor, (case.boxes, case.scores, case.classes))
    kept, value = soft_nms(boxes.float(), scores.float(), classes)
    found = boxes[kept].numpy(), value.numpy(), classes[kept].numpy()
    return DetectionCase(*found, case.reference_boxes, case.reference_classes)


def _ap50(cases: list[DetectionCase]) -> float:
    return detection.mean_average_precision([detection.match(cases, 1, [0.5])])
