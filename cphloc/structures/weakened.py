"""Weaker annotations as they follow from stronger ones: boxes, a side or a label from a mask."""

from __future__ import annotations

import numpy as np

from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.rung import Rung


def weakened(annotation: Annotation, geometry: Geometry, classes: int, rung: Rung) -> Annotation:
    """Keep what an annotator of a weaker rung would have stated; a weaker annotation is returned as it is.

    Args:
        annotation: of one image.
        geometry: grid of the image.
        classes: number of foreground classes K.
        rung: strongest rung to keep: ``boxes`` around the objects, ``region`` the `side` that holds more of them, or
            ``label``. What was not looked for stays unknown.
    """
    if annotation.rung is None or annotation.rung <= rung:
        return annotation
    known = annotation.completed(geometry.shape, classes)
    if rung == Rung.BOXES:
        return Annotation(
            boxes=known.boxes, box_classes=known.box_classes, label=known.label, boxes_known=known.boxes_known
        )
    if rung == Rung.REGION and known.region is not None:
        return Annotation(region=side(np.asarray(known.region), geometry), label=known.label)
    return Annotation(label=known.label)


def side(region: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the half of an image, left or right of the patient, that holds more of a region.

    Args:
        region: ``(*S)``, 0 outside.
        geometry: grid of the region; halves are divided across its axis nearest to the patient's left to right.

    Returns:
        ``(*S)`` float32, 1 in that half and 0.5 in its middle column; the union of both halves where neither holds
        more, and 0 for an empty region.

    >>> grid = Geometry.regular((1, 4))
    >>> side(np.array([[0.0, 0.0, 0.0, 1.0]]), grid).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    axis = geometry.canonical()[0][-1]
    width = region.shape[axis]
    lower = np.clip(width / 2 - np.arange(width), 0, 1).astype(np.float32)
    lower = np.moveaxis(np.broadcast_to(lower, (*np.delete(region.shape, axis), width)), -1, axis)
    total, below = float(region.sum()), float((region * lower).sum())
    if total == 0:
        return np.zeros(region.shape, np.float32)
    if abs(total - 2 * below) <= 1e-6 * total:
        return np.ones(region.shape, np.float32)
    return np.array(lower if 2 * below > total else 1 - lower)
