"""Scores of attention maps against regions.

An attention map ``(*S)`` is non-negative and sums to 1 (it is normalised here in any case). A region ``(*S)`` is a bool
mask or the covered fraction of each cell in [0, 1], on the same grid; `upsample` brings a coarse map to that of
the image.
Everything is NaN where the region is empty: localization is measured on positives.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cphloc.errors import InputError
from cphloc.metrics.segmentation import connected_components, iou
from cphloc.structures.annotation import region_of


def upsample(attention: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolate a map linearly to ``shape`` and normalise it to sum 1.

    Cells are areas, not points: the outer edges of both grids coincide (``align_corners=False``), and beyond the
    outermost centres the map is constant.

    >>> upsample(np.array([0.25, 0.75]), (4,)).tolist()
    [0.125, 0.1875, 0.3125, 0.375]
    """
    found = np.asarray(attention, float)
    for axis, n in enumerate(shape):
        cells = found.shape[axis]
        at = np.clip((np.arange(n) + 0.5) * cells / n - 0.5, 0, cells - 1)
        below = np.minimum(at.astype(int), max(cells - 2, 0))
        along = [1] * found.ndim
        along[axis] = n
        share = (at - below).reshape(along)
        found = found.take(below, axis) * (1 - share) + found.take(np.minimum(below + 1, cells - 1), axis) * share
    return found / found.sum()


def mass_in_region(attention: np.ndarray, region: np.ndarray) -> float:
    """Share of the attention that lies in the region; also called energy pointing game.

    >>> mass_in_region(np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0, 1], [0, 1]]))
    0.6000000000000001
    """
    attention, region = _pair(attention, region)
    return float((attention * region).sum()) if region.any() else float("nan")


def enrichment(attention: np.ndarray, region: np.ndarray) -> float:
    """Mass in the region over what uniform attention would put there; 1 is chance.

    >>> round(enrichment(np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0, 1], [0, 1]])), 9)
    1.2
    """
    _, covered = _pair(attention, region)
    return mass_in_region(attention, region) / float(covered.mean()) if covered.any() else float("nan")


def pointing(
    attention: np.ndarray, region: np.ndarray, tolerance_mm: float = 0.0, spacing_mm: tuple[float, ...] | None = None
) -> float:
    """Pointing game: 1 where the maximum of attention lies in the region or within ``tolerance_mm`` of it, else 0.

    Distances run between voxel centres; Zhang et al. (2018) allow 15 pixels, so state the tolerance. Of several equal
    maxima the first counts.

    Args:
        attention: ``(*S)``.
        region: ``(*S)``.
        tolerance_mm: in pixels where ``spacing_mm`` is ``None``.
        spacing_mm: voxel size per axis, array order.

    >>> pointing(np.array([0.1, 0.7, 0.2]), np.array([0, 0, 1]))
    0.0
    >>> pointing(np.array([0.1, 0.7, 0.2]), np.array([0, 0, 1]), tolerance_mm=1)
    1.0
    """
    attention, region = _pair(attention, region)
    if not region.any():
        return float("nan")
    peak = np.unravel_index(attention.argmax(), attention.shape)
    if region[peak] > 0:
        return 1.0
    apart = (np.argwhere(region > 0) - peak) * (1.0 if spacing_mm is None else np.asarray(spacing_mm))
    return float((apart**2).sum(axis=1).min() <= tolerance_mm**2)


def side_accuracy(attention: np.ndarray, region: np.ndarray, axis: int = -1) -> float:
    """1 where attention and region have the larger part of their mass in the same half of the image, else 0.

    NaN where the region lies equally in both halves. The middle plane of an odd axis belongs to neither half.

    >>> side_accuracy(np.array([[0.1, 0.2, 0.3, 0.4]]), np.array([[0, 0, 1, 1]]))
    1.0
    """
    attention, region = _pair(attention, region)
    leaning, wanted = (_leaning(values, axis) for values in (attention, region))
    return float(np.sign(leaning) == np.sign(wanted)) if wanted else float("nan")


def slice_hit(attention: np.ndarray, region: np.ndarray, axis: int = 0) -> float:
    """1 where the slice with most attention holds a part of the region, else 0.

    >>> slice_hit(np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0, 0], [1, 0]]))
    1.0
    """
    attention, region = _pair(attention, region)
    others = tuple(a for a in range(attention.ndim) if a != axis)
    held = np.any(region, axis=others)
    return float(held[attention.sum(axis=others).argmax()]) if held.any() else float("nan")


def entropy(attention: np.ndarray) -> float:
    """Entropy of the map in nats: 0 for a single voxel, the logarithm of their number for uniform attention.

    >>> round(entropy(np.full((4, 4), 1 / 16)), 6)  # log 16
    2.772589
    """
    attention = _normalised(attention)
    held = attention[attention > 0]
    return float(-(held * np.log(held)).sum())


def thresholded_iou(attention: np.ndarray, mask: np.ndarray, fraction: float) -> float:
    """IoU of a mask with the voxels of at least ``fraction`` of the maximum; choose the fraction on validation data.

    >>> thresholded_iou(np.array([0.1, 0.3, 0.6]), np.array([0, 1, 1]), fraction=0.5)
    1.0
    """
    attention, region = _pair(attention, mask)
    return iou(attention >= fraction * attention.max(), region > 0) if region.any() else float("nan")


def lesion_recall(attention: np.ndarray, boxes: np.ndarray, mass: float = 0.1) -> float:
    """Share of boxes ``(n, 2 D)``, in cells of the map, that hold at least ``mass`` of the attention.

    >>> lesion_recall(np.array([[0.0, 1.0, 0.0, 0.0]]), [[0, 0, 1, 2], [0, 2, 1, 4]])
    0.5
    """
    attention = _normalised(attention)
    boxes = np.asarray(boxes, float).reshape(-1, 2 * attention.ndim)
    held = [(attention * region_of(box, attention.shape)).sum() >= mass for box in boxes]
    return float(np.mean(held)) if held else float("nan")


def peaks(attention: np.ndarray, fraction: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Local maxima of at least ``fraction`` of the greatest, as candidates for FROC.

    Neighbours that touch by a face, edge or corner and share the value are one peak, at their centre.

    Returns:
        positions ``(n, D)`` in edge coordinates (voxel ``i``'s centre is ``i + 0.5``) and attention ``(n,)``, falling.

    >>> peaks(np.array([0.1, 0.5, 0.1, 0.3]))
    (array([[1.5],
           [3.5]]), array([0.5, 0.3]))
    """
    attention = _normalised(attention)
    neighbours = ndimage.maximum_filter(attention, footprint=np.ones((3,) * attention.ndim, int))
    top = (attention == neighbours) & (attention >= fraction * attention.max())
    labels, count = connected_components(top)
    numbers = np.arange(1, count + 1)
    positions = np.array(ndimage.center_of_mass(top, labels, numbers)).reshape(-1, attention.ndim) + 0.5
    values = ndimage.maximum(attention, labels, numbers)
    order = np.argsort(-np.asarray(values), kind="stable")
    return positions[order], np.asarray(values)[order]


def _normalised(attention: np.ndarray) -> np.ndarray:
    attention = np.asarray(attention, float)
    total = attention.sum()
    if not (np.isfinite(total) and total > 0 and attention.min() >= 0):
        msg = f"attention must be finite and non-negative with a positive sum, got sum {total}; pass it after softmax"
        raise InputError(msg)
    return attention / total


def _pair(attention: np.ndarray, region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    attention, region = _normalised(attention), np.asarray(region, float)
    if attention.shape != region.shape:
        msg = f"attention {attention.shape} and region {region.shape} differ in shape; upsample the attention first"
        raise InputError(msg)
    return attention, region


def _leaning(values: np.ndarray, axis: int) -> float:
    """Mass of the upper half along ``axis`` minus that of the lower half."""
    along = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).sum(axis=1)
    half = len(along) // 2
    return float(along[len(along) - half :].sum() - along[:half].sum())
