"""Crops of a pipeline: the region around what a stage found, and the result of a crop on the grid of the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from cphloc.inference.localization import SHOWN_SCORE, Localization
from cphloc.recipe.stages import Crop
from cphloc.structures.geometry import Geometry
from cphloc.structures.merging import of_part
from cphloc.structures.volume import Volume

_ROUNDING = 1e-3
"""Voxels by which the edge of a crop may lie beyond a voxel without including it; mirrored images round otherwise."""


def found_edges(result: Localization, crop: Crop, threshold: float | None = None) -> np.ndarray | None:
    """Return the bounding box of what a result holds: of its mask, else of its boxes; ``None`` where that is nothing.

    Args:
        result: of an earlier stage.
        crop: which classes and boxes count.
        threshold: least score of a box where ``crop`` states none; ``None`` for `SHOWN_SCORE`.

    Returns:
        ``(2, D)`` lower and upper edges in voxels, array-axis order.
    """
    if result.masks is not None:
        names = of_part(result.classes, "mask")
        numbers = [number for number, name in names.items() if crop.classes is None or name in crop.classes]
        return mask_edges(np.isin(result.masks, numbers))
    least = crop.score if crop.score is not None else SHOWN_SCORE if threshold is None else threshold
    kept = [b for b in result.boxes or [] if b.score >= least and (crop.classes is None or b.name in crop.classes)]
    kept = sorted(kept, key=lambda box: -box.score)[: crop.most_boxes]
    return box_edges(np.array([box.voxels for box in kept])) if kept else None


def mask_edges(mask: np.ndarray) -> np.ndarray | None:
    """Return the bounding box ``(2, D)`` of the voxels of a mask; ``None`` where it is empty.

    >>> mask_edges(np.array([[0, 0, 0], [0, 1, 1]], bool)).tolist()
    [[1, 1], [2, 3]]
    """
    axes = [np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim)]
    if any(not len(axis) for axis in axes):
        return None
    return np.array([[axis[0] for axis in axes], [axis[-1] + 1 for axis in axes]])


def box_edges(boxes: np.ndarray) -> np.ndarray:
    """Return the bounding box ``(2, D)`` of boxes ``(n, 2 D)``."""
    low, high = np.split(boxes, 2, axis=1)
    return np.stack([low.min(axis=0), high.max(axis=0)])


def crop_around(edges: np.ndarray, crop: Crop, grid: Geometry) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Enlarge a bounding box by the margin of a crop, within the image.

    Distances are along the axes of the image, so that the storage order of the voxels changes nothing.

    Args:
        edges: ``(2, D)`` lower and upper edges in voxels.
        crop: its margin and smallest extent.
        grid: of the image.

    Returns:
        first voxel and number of voxels per axis, at least one.

    >>> crop_around(np.array([[4.0, 4.0], [6.0, 6.0]]), Crop(stage="find", margin_mm=2.0), Geometry.regular((16, 7)))
    ((2, 2), (6, 5))
    """
    spacing = np.asarray(grid.spacing_mm)
    low, high = edges[0] - crop.margin_mm / spacing, edges[1] + crop.margin_mm / spacing
    lacking = np.maximum((crop.at_least_mm or 0.0) / spacing - (high - low), 0.0) / 2
    shape = np.asarray(grid.shape)
    start = np.clip(np.floor(low - lacking + _ROUNDING), 0, shape - 1).astype(int)
    stop = np.clip(np.ceil(high + lacking - _ROUNDING), start + 1, shape).astype(int)
    return tuple(start.tolist()), tuple((stop - start).tolist())


def onto_image(result: Localization, volume: Volume, start: tuple[int, ...]) -> Localization:
    """Convert the result of a crop to the grid of the whole image.

    Outside the crop masks are background, attention and uncertainty are 0.

    Args:
        result: of the crop.
        volume: the whole image.
        start: first voxel of the crop.
    """
    shape = result.image.geometry.shape
    inside = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))

    def whole(array: np.ndarray | None) -> np.ndarray | None:
        """Place an array of the crop in one of the image."""
        if array is None or shape == volume.geometry.shape:
            return array
        placed = np.zeros(volume.geometry.shape, array.dtype)
        placed[inside] = array
        return placed

    maps: Mapping[str, Any] = {name: whole(getattr(result, name)) for name in ("masks", "attention", "uncertainty")}
    offset = np.asarray((*start, *start))
    boxes = result.boxes
    if boxes is not None:
        boxes = [
            replace(
                box,
                voxels=tuple((np.asarray(box.voxels) + offset).tolist()),
                mask=None if box.mask is None else box.mask.moved(start),
            )
            for box in boxes
        ]
    return replace(result, image=volume, boxes=boxes, **maps)
