"""Scores of attention maps against reference regions.

An attention map is a non-negative array ``(*S)`` in 2-D or 3-D; all functions normalise it to sum 1. A region is an
array of the same shape: a bool mask, or the covered fraction of each cell in [0, 1]. `upsample` interpolates a coarse
map to the grid of the image. Scores are NaN if the region is empty, so localization is measured on positive images
only.

All functions raise `InputError` if the map has a negative or non-finite value, sums to 0, or differs from the region in
shape.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cphloc.errors import InputError
from cphloc.metrics.segmentation import connected_components, iou
from cphloc.structures.boxes import region_of


def upsample(attention: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolate an attention map linearly to ``shape`` and normalise it to sum 1.

    The outer edges of both grids coincide (``align_corners=False``), and the map is constant beyond the centres of its
    outermost cells.

    Args:
        attention: ``(*S)`` map.
        shape: shape of the result, one number per axis of the map.

    >>> upsample(np.array([0.25, 0.75]), (4,)).tolist()
    [0.125, 0.1875, 0.3125, 0.375]
    """
    resized = np.asarray(attention, float)
    for axis, n in enumerate(shape):
        cells = resized.shape[axis]
        position = np.clip((np.arange(n) + 0.5) * cells / n - 0.5, 0, cells - 1)
        lower = np.minimum(position.astype(int), max(cells - 2, 0))
        upper = np.minimum(lower + 1, cells - 1)
        broadcast = [1] * resized.ndim
        broadcast[axis] = n
        weight = (position - lower).reshape(broadcast)
        resized = resized.take(lower, axis) * (1 - weight) + resized.take(upper, axis) * weight
    return resized / resized.sum()


def mass_in_region(attention: np.ndarray, region: np.ndarray) -> float:
    """Compute the fraction of the attention inside the region; also called energy-based pointing game.

    >>> mass_in_region(np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0, 1], [0, 1]]))
    0.6000000000000001
    """
    attention, region = _pair(attention, region)
    return float((attention * region).sum()) if region.any() else float("nan")


def enrichment(attention: np.ndarray, region: np.ndarray) -> float:
    """Compute the attention inside the region divided by that of a uniform map; 1 is chance level.

    >>> round(enrichment(np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0, 1], [0, 1]])), 9)
    1.2
    """
    _, covered = _pair(attention, region)
    return mass_in_region(attention, region) / float(covered.mean()) if covered.any() else float("nan")


def pointing(
    attention: np.ndarray, region: np.ndarray, tolerance_mm: float = 0.0, spacing_mm: tuple[float, ...] | None = None
) -> float:
    """Score the pointing game: 1 if the maximum of the attention is in the region or near it, else 0.

    Distances are measured between voxel centres. If several voxels share the maximum, the first one counts. The score
    depends on the tolerance, so report it; the original publication (Zhang et al., 2018) allows 15 pixels.

    Args:
        attention: ``(*S)`` map.
        region: ``(*S)`` mask or fractions.
        tolerance_mm: largest distance to the region, in mm; in pixels if ``spacing_mm`` is ``None``.
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
    offsets = (np.argwhere(region > 0) - peak) * (1.0 if spacing_mm is None else np.asarray(spacing_mm))
    return float((offsets**2).sum(axis=1).min() <= tolerance_mm**2)


def side_accuracy(attention: np.ndarray, region: np.ndarray, axis: int = -1) -> float:
    """Score whether attention and region are on the same side of the image: 1 if so, else 0.

    The side of each is the half of the image with the larger part of its sum. NaN if the region is divided equally
    between both halves. The middle plane of an axis of odd length belongs to neither half.

    Args:
        attention: ``(*S)`` map.
        region: ``(*S)`` mask or fractions.
        axis: axis across which the image is divided, such as left to right.

    >>> side_accuracy(np.array([[0.1, 0.2, 0.3, 0.4]]), np.array([[0, 0, 1, 1]]))
    1.0
    """
    attention, region = _pair(attention, region)
    attention_side, region_side = (_difference_of_halves(values, axis) for values in (attention, region))
    return float(np.sign(attention_side) == np.sign(region_side)) if region_side else float("nan")


def slice_hit(attention: np.ndarray, region: np.ndarray, axis: int = 0) -> float:
    """Score whether the slice along ``axis`` with the most attention contains a part of the region: 1 if so, else 0.

    >>> slice_hit(np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0, 0], [1, 0]]))
    1.0
    """
    attention, region = _pair(attention, region)
    others = tuple(a for a in range(attention.ndim) if a != axis)
    positive_slices = np.any(region, axis=others)
    return float(positive_slices[attention.sum(axis=others).argmax()]) if positive_slices.any() else float("nan")


def entropy(attention: np.ndarray) -> float:
    """Compute the entropy of the map in nats: 0 if one voxel has all attention, the log of their number if uniform.

    >>> round(entropy(np.full((4, 4), 1 / 16)), 6)  # log 16
    2.772589
    """
    attention = _normalised(attention)
    positive = attention[attention > 0]
    return float(-(positive * np.log(positive)).sum())


def thresholded_iou(attention: np.ndarray, mask: np.ndarray, fraction: float) -> float:
    """Compute the IoU of a mask and the voxels whose attention is at least ``fraction`` of the maximum.

    Args:
        attention: ``(*S)`` map.
        mask: ``(*S)`` reference, foreground where positive.
        fraction: in [0, 1]; choose it on validation data.

    >>> thresholded_iou(np.array([0.1, 0.3, 0.6]), np.array([0, 1, 1]), fraction=0.5)
    1.0
    """
    attention, region = _pair(attention, mask)
    return iou(attention >= fraction * attention.max(), region > 0) if region.any() else float("nan")


def lesion_recall(attention: np.ndarray, boxes: np.ndarray, mass: float = 0.1) -> float:
    """Compute the fraction of lesions whose box contains at least ``mass`` of the attention; NaN without boxes.

    Args:
        attention: ``(*S)`` map.
        boxes: ``(n, 2 D)`` edge coordinates of the lesions on the grid of the map.
        mass: smallest fraction of the attention inside a box, in [0, 1].

    >>> lesion_recall(np.array([[0.0, 1.0, 0.0, 0.0]]), [[0, 0, 1, 2], [0, 2, 1, 4]])
    0.5
    """
    attention = _normalised(attention)
    boxes = np.asarray(boxes, float).reshape(-1, 2 * attention.ndim)
    detected = [(attention * region_of(box, attention.shape)).sum() >= mass for box in boxes]
    return float(np.mean(detected)) if detected else float("nan")


def peaks(attention: np.ndarray, fraction: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Find local maxima of at least ``fraction`` of the global maximum, as candidates for FROC.

    Connected voxels (by face, edge or corner) of the same value form one peak, at their centroid.

    Returns:
        positions ``(n, D)`` in edge coordinates, where the centre of voxel ``i`` is ``i + 0.5``, and the attention
        ``(n,)`` at each, in descending order.

    >>> peaks(np.array([0.1, 0.5, 0.1, 0.3]))
    (array([[1.5],
           [3.5]]), array([0.5, 0.3]))
    """
    attention = _normalised(attention)
    neighbourhood_max = ndimage.maximum_filter(attention, footprint=np.ones((3,) * attention.ndim, int))
    is_peak = (attention == neighbourhood_max) & (attention >= fraction * attention.max())
    labels, count = connected_components(is_peak)
    numbers = np.arange(1, count + 1)
    positions = np.array(ndimage.center_of_mass(is_peak, labels, numbers)).reshape(-1, attention.ndim) + 0.5
    values = ndimage.maximum(attention, labels, numbers)
    order = np.argsort(-np.asarray(values), kind="stable")
    return positions[order], np.asarray(values)[order]


def _normalised(attention: np.ndarray) -> np.ndarray:
    attention = np.asarray(attention, float)
    total = attention.sum()
    if not (np.isfinite(total) and total > 0 and attention.min() >= 0):
        msg = (
            "attention must be finite and non-negative with a positive sum, such as the output of a softmax; got sum "
            f"{total} and minimum {attention.min()}"
        )
        raise InputError(msg)
    return attention / total


def _pair(attention: np.ndarray, region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    attention, region = _normalised(attention), np.asarray(region, float)
    if attention.shape != region.shape:
        msg = f"attention {attention.shape} and region {region.shape} differ in shape; use upsample on the attention"
        raise InputError(msg)
    return attention, region


def _difference_of_halves(values: np.ndarray, axis: int) -> float:
    """Sum of the upper half along ``axis`` minus that of the lower half."""
    profile = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).sum(axis=1)
    half = len(profile) // 2
    return float(profile[len(profile) - half :].sum() - profile[:half].sum())
