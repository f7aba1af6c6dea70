"""Cut training patches out of prepared cases, with everything that is known about them."""

from __future__ import annotations

import numpy as np

from cphloc.data.augment.warp import Warp, warp_boxes, warp_image, warp_image_and_mask
from cphloc.data.pipeline.cache import PreparedCase
from cphloc.structures.annotation import Annotation, clip_boxes

VISIBLE = 0.25
"""A box of which less than this fraction remains in a patch is left out."""


def draw_start(
    shape: tuple[int, ...], size: tuple[int, ...], rng: np.random.Generator, around: np.ndarray | None = None
) -> tuple[int, ...]:
    """First voxel of a patch of ``size`` in an image of ``shape``; negative where the image is the smaller one.

    Args:
        shape: of the image.
        size: of the patch.
        rng: draws the offset.
        around: voxel that the patch is centred on, as far as it stays inside the image; ``None`` for anywhere.
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
    """One voxel ``(D,)`` of a random class of ``foreground`` ``(n, 1 + D)``; ``None`` where there is none."""
    if not len(foreground):
        return None
    chosen = rng.choice(np.unique(foreground[:, 0]))
    rows = np.flatnonzero(foreground[:, 0] == chosen)
    return foreground[rng.choice(rows), 1:]


def cut(
    prepared: PreparedCase, start: tuple[int, ...], size: tuple[int, ...], warp: Warp
) -> tuple[np.ndarray, Annotation]:
    """Cut the patch of ``size`` voxels that begins at ``start``, deformed by ``warp``, out of a prepared case.

    Beyond the image lie zeros and background. Boxes are clipped and left out where less than `VISIBLE` of them
    remains. A label that was only stated for the whole image holds for a patch where it says "absent", or where the
    patch covers the whole image; otherwise it becomes unknown.

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
    if boxes is not None:
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
    """Copy of ``array[start : start + size]`` with zeros beyond its edges."""
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
