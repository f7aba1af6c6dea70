"""Cut training patches out of prepared cases, image and annotation together."""

from __future__ import annotations

import numpy as np

from cphloc.data.augment.warp import Warp, warp_boxes, warp_image, warp_image_and_mask
from cphloc.data.pipeline.cache import PreparedCase
from cphloc.structures.annotation import Annotation, clip_boxes

VISIBLE = 0.25
"""Smallest fraction of a box that must lie inside a patch; boxes with less are left out."""


def draw_start(
    shape: tuple[int, ...], size: tuple[int, ...], rng: np.random.Generator, around: np.ndarray | None = None
) -> tuple[int, ...]:
    """Draw the position of a patch in an image.

    Args:
        shape: size of the image in voxels.
        size: size of the patch in voxels.
        rng: source of randomness.
        around: voxel on which the patch is centred, as far as the patch stays inside the image; ``None`` for anywhere.

    Returns:
        index of the first voxel of the patch; not positive along axes where the image is smaller than the patch.
    """
    free = [sorted((0, n - p)) for n, p in zip(shape, size, strict=True)]
    anywhere = tuple(int(rng.integers(low, high + 1)) for low, high in free)
    if around is None:
        return anywhere
    centred = (int(c) - p // 2 for c, p in zip(around, size, strict=True))
    return tuple(
        min(max(c, low), high) if n > p else start
        for c, (low, high), n, p, start in zip(centred, free, shape, size, anywhere, strict=True)
    )


def draw_foreground(foreground: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Draw one foreground voxel: first a class, then one of its voxels.

    Args:
        foreground: ``(n, 1 + D)``; class number and voxel index.
        rng: source of randomness.

    Returns:
        index ``(D,)``; ``None`` where there is no foreground.
    """
    if not len(foreground):
        return None
    chosen = rng.choice(np.unique(foreground[:, 0]))
    rows = np.flatnonzero(foreground[:, 0] == chosen)
    return foreground[rng.choice(rows), 1:]


def cut(
    prepared: PreparedCase, start: tuple[int, ...], size: tuple[int, ...], warp: Warp
) -> tuple[np.ndarray, Annotation]:
    """Cut a patch, deformed by a warp, out of a prepared case.

    Outside the image, intensities are 0 and the mask is background. Boxes are clipped, and left out where less than
    `VISIBLE` of them lies inside. A label of the whole image stays valid where a class is absent, or where the patch
    covers the whole image; otherwise it becomes unknown.

    Args:
        prepared: the case.
        start: index of the first voxel of the patch.
        size: voxels of the patch.
        warp: deformation of the patch.

    Returns:
        the image ``(C, *size)`` float32 and its annotation.
    """
    given, shape = prepared.annotation, prepared.image.shape[1:]
    centre = np.asarray(start, float) + np.asarray(size) / 2
    image, mask = _sample(prepared.image, given.mask, start, size, warp, centre)
    region = given.region
    if region is not None:
        region = np.clip(_sample(region[None], None, start, size, warp, centre)[0][0], 0, 1)
    boxes, box_classes = given.boxes, given.box_classes
    if boxes is not None and box_classes is not None:
        moved = warp_boxes(boxes, warp, centre, size)
        kept = _visible(moved, size)
        boxes, box_classes = clip_boxes(moved, size)[0][kept], box_classes[kept]
    whole = all(s <= 0 and s + p >= n for s, p, n in zip(start, size, shape, strict=True))
    return image, Annotation(mask, boxes, box_classes, region, given.label_of_part(whole))


def _sample(
    image: np.ndarray,
    mask: np.ndarray | None,
    start: tuple[int, ...],
    size: tuple[int, ...],
    warp: Warp,
    centre: np.ndarray,
) -> tuple[np.ndarray, np.ndarray | None]:
    mirrored = warp.mirrored
    if mirrored is None:
        if mask is None:
            return warp_image(image, warp, centre, size), None
        return warp_image_and_mask(image, mask, warp, centre, size)
    flip = np.s_[(slice(None), *(slice(None, None, -1 if a in mirrored else 1) for a in range(len(size))))]
    cropped = np.ascontiguousarray(_crop(image, (0, *start), (len(image), *size))[flip])
    if mask is None:
        return cropped, None
    return cropped, np.ascontiguousarray(_crop(mask, start, size)[flip[1:]])


def _crop(array: np.ndarray, start: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """Copy ``array[start : start + size]``, with zeros outside the array."""
    out = np.zeros(size, array.dtype)
    inside = [(max(s, 0), min(s + p, n)) for s, p, n in zip(start, size, array.shape, strict=True)]
    source = tuple(slice(low, high) for low, high in inside)
    target = tuple(slice(low - s, high - s) for (low, high), s in zip(inside, start, strict=True))
    out[target] = array[source]
    return out


def _visible(boxes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    dims = len(size)
    clipped, _ = clip_boxes(boxes, size)
    volume, remaining = (np.prod(b[:, dims:] - b[:, :dims], axis=1) for b in (boxes, clipped))
    return (remaining > 0) & (remaining >= VISIBLE * volume)
