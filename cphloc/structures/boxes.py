"""Boxes of masks, and masks and regions of boxes."""

from __future__ import annotations

import numpy as np

IGNORE = 255
"""Mask value of voxels that are not annotated: losses and metrics leave them out."""


def boxes_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tight half-open boxes of the connected components of every class of ``mask``.

    Components touch by faces, edges or corners (8-connected in 2-D, 26-connected in 3-D).

    Returns:
        boxes ``(n, 2 D)`` float32 and their classes ``(n,)`` int64, by class and then by position.
    """
    from scipy import ndimage

    dims = mask.ndim
    everywhere = np.ones((3,) * dims, dtype=int)
    boxes, classes = [], []
    for value in np.unique(mask):
        if value in (0, IGNORE):
            continue
        components = np.zeros(mask.shape, np.int32)
        ndimage.label(mask == value, structure=everywhere, output=components)
        for found in ndimage.find_objects(components):
            boxes.append([s.start for s in found] + [s.stop for s in found])
            classes.append(int(value))
    return np.asarray(boxes, np.float32).reshape(-1, 2 * dims), np.asarray(classes, np.int64)


def region_of(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Union of ``boxes`` as ``(*shape)`` float32: the covered fraction of each voxel, at most 1 where boxes overlap."""
    dims = len(shape)
    region = np.zeros(shape, np.float32)
    for box in np.asarray(boxes, float).reshape(-1, 2 * dims):
        covered = np.ones((), np.float32)
        for axis, n in enumerate(shape):
            edges = np.clip(np.arange(n + 1), box[axis], box[axis + dims])
            along = [1] * dims
            along[axis] = n
            covered = covered * np.diff(edges).reshape(along)
        region = np.maximum(region, covered.astype(np.float32))
    return region


def mask_of(boxes: np.ndarray, box_classes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Draw boxes as a class mask ``(*shape)`` uint8: voxels whose centre lies in a box; later boxes on top."""
    dims = len(shape)
    mask = np.zeros(shape, np.uint8)
    for box, value in zip(np.asarray(boxes, float).reshape(-1, 2 * dims), box_classes, strict=True):
        first, last = np.ceil(box[:dims] - 0.5), np.ceil(box[dims:] - 0.5)
        mask[tuple(slice(max(int(a), 0), max(int(b), 0)) for a, b in zip(first, last, strict=True))] = value
    return mask


def clip_boxes(boxes: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to the image.

    Returns:
        the clipped boxes ``(n, 2 D)`` and a bool ``(n,)``, false where nothing of the box is left inside.
    """
    dims = len(shape)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 2 * dims)
    clipped = np.clip(boxes, 0, np.tile(np.asarray(shape, np.float32), 2))
    return clipped, np.all(clipped[:, dims:] > clipped[:, :dims], axis=1)
