"""Prediction of a model for one case, as arrays on the grid of its annotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from cphloc.inference.localization import Localization
from cphloc.structures.instances import ObjectMask
from cphloc.structures.merging import Part, of_part


@dataclass(frozen=True)
class CasePrediction:
    """Prediction for one image, on the same grid as its annotation; parts the model does not predict are ``None``.

    Args:
        mask: ``(*S)`` uint8, class of each voxel, 0 for background.
        boxes: ``(n, 2 D)`` voxel edges ``[lo..., hi...]`` in array-axis order.
        scores: ``(n,)`` confidence of each box in [0, 1].
        box_classes: ``(n,)`` class of each box, 1..K.
        objects: voxels of each box, by models that outline objects one by one; empty where there is no box.
        attention: ``(*S)`` attention map that sums to 1.
        probabilities: ``(K,)`` probability that each class is present in the image.
    """

    mask: np.ndarray | None = None
    boxes: np.ndarray | None = None
    scores: np.ndarray | None = None
    box_classes: np.ndarray | None = None
    objects: tuple[ObjectMask, ...] | None = None
    attention: np.ndarray | None = None
    probabilities: np.ndarray | None = None

    @property
    def detections(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Boxes, their scores and their classes; ``None`` if the model does not predict boxes."""
        if self.boxes is None or self.scores is None or self.box_classes is None:
            return None
        return self.boxes, self.scores, self.box_classes


def case_prediction(result: Localization, classes: Mapping[int, str]) -> CasePrediction:
    """Convert a result of `Localizer.predict` to arrays on the grid of the image.

    Args:
        result: result of the prediction.
        classes: number 1..K -> name. Boxes and probabilities of other classes, which earlier stages of a pipeline
            add, are left out.
    """
    result = _without_others(result, classes)
    numbers = {name: number for number, name in of_part(classes, "boxes").items()}
    boxes = result.boxes
    objects = tuple(box.mask for box in boxes or () if box.mask is not None)
    outlined = result.outlines and boxes is not None and len(objects) == len(boxes)
    return CasePrediction(
        mask=result.masks,
        boxes=None if boxes is None else np.array([b.voxels for b in boxes]).reshape(-1, 2 * result.image.dims),
        scores=None if boxes is None else np.array([b.score for b in boxes]),
        box_classes=None if boxes is None else np.array([numbers[b.name] for b in boxes], int),
        objects=objects if outlined else None,
        attention=result.attention,
        probabilities=None if result.probabilities is None else np.array(list(result.probabilities.values())),
    )


def _without_others(result: Localization, classes: Mapping[int, str]) -> Localization:
    """Leave out parts whose classes are not those of the model: boxes and probabilities of earlier stages."""
    named: Mapping[str, Part] = {"boxes": "boxes", "probabilities": "labels"}
    others = [name for name, part in named.items() if of_part(result.classes, part) != of_part(classes, part)]
    return replace(result, **dict.fromkeys(others)) if others else result
