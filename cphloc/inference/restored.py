"""Convert predictions on the grid of the model to a result on the grid of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cphloc.data.io.formats import case_name
from cphloc.data.pipeline.preprocess import restore_attention, restore_boxes
from cphloc.data.pipeline.slabs import MaskRows
from cphloc.data.pipeline.whole import WholeRows
from cphloc.errors import InputError
from cphloc.inference.localization import Box, Localization
from cphloc.ops.instance_masks import outlined
from cphloc.ops.targets import Detections, Prediction
from cphloc.structures.geometry import Geometry
from cphloc.structures.instances import ObjectMask
from cphloc.structures.merging import of_part
from cphloc.structures.volume import Volume, reoriented_back


def localization_of(
    predictions: Mapping[str, Prediction],
    masks: Mapping[str, MaskRows | WholeRows],
    volume: Volume,
    prepared: Geometry,
    classes: Mapping[int, str],
) -> Localization:
    """Resample the predictions of all heads to the image's own grid and join them.

    Args:
        predictions: prediction of each head on the preprocessed grid.
        masks: class mask of each head that has one, on the image's own grid.
        volume: the image.
        prepared: the preprocessed grid.
        classes: number 1..K -> name.

    Raises:
        InputError: two heads predict the same part.
    """
    original = volume.geometry
    parts: dict[str, Any] = {}
    for name, prediction in predictions.items():
        mask = {"masks": masks[name].mask()} if name in masks else {}
        for part, value in (mask | _restored(prediction, prepared, original, classes)).items():
            if part in parts:
                msg = f"two heads predict {part}, the second is '{name}'; a recipe may have one head of each kind"
                raise InputError(msg)
            parts[part] = value
    extra = {key: value[0].tolist() for p in predictions.values() for key, value in p.extra.items()}
    return Localization(volume, classes, **parts, extra=extra, case=case_name(volume.source))


def _restored(
    prediction: Prediction, prepared: Geometry, original: Geometry, classes: Mapping[int, str]
) -> dict[str, Any]:
    """Resample boxes, attention and label probabilities of one head; all but its mask."""
    parts: dict[str, Any] = {}
    if prediction.detections is not None:
        parts["boxes"] = _boxes(prediction.detections[0], prepared, original, of_part(classes, "boxes"))
        parts["outlines"] = prediction.detections[0].masks is not None
    if prediction.attention is not None:
        parts["attention"] = restore_attention(prepared, original, prediction.attention[0].cpu().numpy())
    if prediction.label_probabilities is not None:
        values = prediction.label_probabilities[0].tolist()
        parts["probabilities"] = {of_part(classes, "labels")[number]: value for number, value in enumerate(values, 1)}
    return parts


def _boxes(detections: Detections, prepared: Geometry, original: Geometry, classes: Mapping[int, str]) -> list[Box]:
    """Convert detections to boxes in the voxels and millimetres of the original image."""
    voxels = restore_boxes(prepared, original, detections.boxes.cpu().numpy())
    mm = original.boxes_to_world(voxels)
    rows = zip(detections.classes.tolist(), detections.scores.tolist(), voxels.tolist(), mm.tolist(), strict=True)
    boxes = [Box(classes[number], score, tuple(v), tuple(m), number) for number, score, v, m in rows]
    if detections.masks is None:
        return boxes
    masks = detections.masks.float().cpu().numpy()
    return [replace(box, mask=_object_mask(mask, box.voxels, original)) for box, mask in zip(boxes, masks, strict=True)]


def _object_mask(mask: np.ndarray, voxels: Sequence[float], original: Geometry) -> ObjectMask:
    """Draw a mask ``(*M)`` on the grid of its box, in canonical axes, into the voxels of the original image."""
    turned = np.ascontiguousarray(reoriented_back(mask, *original.canonical()))
    return outlined(torch.from_numpy(turned), torch.tensor(voxels, dtype=torch.float32), original.shape)
