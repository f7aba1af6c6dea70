"""Sample training patches, with their annotation, from preprocessed cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cphloc.data.augment.warp import Warp, warp_boxes, warp_image, warp_image_and_mask
from cphloc.data.pipeline.cache import PreparedCase
from cphloc.structures.annotation import Annotation
from cphloc.structures.boxes import clip_boxes
from cphloc.structures.padding import Fill

VISIBLE = 0.25
"""Fraction of the area or volume of a box that must be inside a patch; boxes with less are dropped."""


def draw_start(
    shape: tuple[int, ...], size: tuple[int, ...], rng: np.random.Generator, around: np.ndarray | None = None
) -> tuple[int, ...]:
    """Sample a random position for a patch in an image.

    Args:
        shape: size of the image in voxels.
        size: size of the patch in voxels.
        rng: random number generator.
        around: index ``(D,)`` of the voxel to centre the patch on, shifted so that the patch stays inside the image;
            ``None`` samples the position uniformly.

    Returns:
        index of the first voxel of the patch; zero or negative along axes where the image is smaller than the patch.
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


def draw_foreground(foreground: np.ndarray, rng: np.random.Generator, label: int = 0) -> np.ndarray | None:
    """Sample one foreground voxel uniformly.

    Args:
        foreground: ``(n, 1 + D)`` integers: class number and voxel index.
        rng: random number generator.
        label: class of the voxel; 0 draws a class first, uniformly.

    Returns:
        voxel index ``(D,)``; ``None`` where ``foreground`` has no such voxel.
    """
    if not len(foreground):
        return None
    chosen = label or rng.choice(np.unique(foreground[:, 0]))
    rows = np.flatnonzero(foreground[:, 0] == chosen)
    if not len(rows):
        return None
    return foreground[rng.choice(rows), 1:]


def cut(
    prepared: PreparedCase, start: tuple[int, ...], size: tuple[int, ...], warp: Warp, fill: Fill = "zero"
) -> tuple[np.ndarray, Annotation]:
    """Crop a patch from a preprocessed case and deform it by a warp.

    Outside the image, the mask is background. Boxes are clipped to the patch, and dropped where
    less than the fraction `VISIBLE` is inside, unless they are boxes to ignore. The image-level label of an absent
    class is kept; that of a present class is kept only if the patch covers the whole image, and becomes unknown (NaN)
    otherwise.

    Args:
        prepared: the preprocessed case.
        start: index of the first voxel of the patch.
        size: size of the patch ``(*S)`` in voxels.
        warp: deformation of the patch.
        fill: intensities outside the image.

    Returns:
        the patch ``(C, *size)`` float32 and its annotation.
    """
    given, shape = prepared.annotation, prepared.image.shape[1:]
    centre = np.asarray(start, float) + np.asarray(size) / 2
    image, mask = _sample(prepared.image, given.mask, start, size, warp, centre, fill)
    region = given.region
    if region is not None:
        region = np.clip(_sample(region[None], None, start, size, warp, centre)[0][0], 0, 1)
    instances = given.instances
    if instances is not None:
        instances = _sample(prepared.image[:0], instances, start, size, warp, centre)[1]
    boxes, box_classes, box_instances = given.boxes, given.box_classes, given.box_instances
    if boxes is not None and box_classes is not None:
        moved = warp_boxes(boxes, warp, centre, size)
        kept = _visible(moved, size, np.where(box_classes < 0, 0.0, VISIBLE))
        boxes, box_classes = clip_boxes(moved, size)[0][kept], box_classes[kept]
        box_instances = None if box_instances is None else box_instances[kept]
    whole = all(s <= 0 and s + p >= n for s, p, n in zip(start, size, shape, strict=True))
    moved = replace(given, mask=mask, boxes=boxes, box_classes=box_classes, region=region)
    moved = replace(moved, instances=instances, box_instances=box_instances)
    return image, replace(moved, label=given.label_of_part(whole))


def _sample(
    image: np.ndarray,
    mask: np.ndarray | None,
    start: tuple[int, ...],
    size: tuple[int, ...],
    warp: Warp,
    centre: np.ndarray,
    fill: Fill = "zero",
) -> tuple[np.ndarray, np.ndarray | None]:
    mirrored = warp.mirrored
    if mirrored is None:
        if mask is None:
            return warp_image(image, warp, centre, size, fill), None
        return warp_image_and_mask(image, mask, warp, centre, size, fill)
    flip = np.s_[(slice(None), *(slice(None, None, -1 if a in mirrored else 1) for a in range(len(size))))]
    cropped = np.ascontiguousarray(_crop(image, (0, *start), (len(image), *size), fill)[flip])
    if mask is None:
        return cropped, None
    return cropped, np.ascontiguousarray(_crop(mask, start, size)[flip[1:]])


def _crop(array: np.ndarray, start: tuple[int, ...], size: tuple[int, ...], fill: Fill = "zero") -> np.ndarray:
    """Copy ``array[start : start + size]``, padded outside the array."""
    if fill == "edge":
        index = (np.clip(np.arange(s, s + p), 0, n - 1) for s, p, n in zip(start, size, array.shape, strict=True))
        return np.ascontiguousarray(array[np.ix_(*index)])
    out = np.zeros(size, array.dtype)
    inside = [(max(s, 0), min(s + p, n)) for s, p, n in zip(start, size, array.shape, strict=True)]
    source = tuple(slice(low, high) for low, high in inside)
    target = tuple(slice(low - s, high - s) for (low, high), s in zip(inside, start, strict=True))
    out[target] = array[source]
    return out


def _visible(boxes: np.ndarray, size: tuple[int, ...], least: np.ndarray) -> np.ndarray:
    """Boolean ``(n,)``: whether at least the fraction ``least`` ``(n,)`` of each box is inside the patch."""
    dims = len(size)
    clipped, _ = clip_boxes(boxes, size)
    volume, remaining = (np.prod(b[:, dims:] - b[:, :dims], axis=1) for b in (boxes, clipped))
    return (remaining > 0) & (remaining >= least * volume)
