"""Overlap of boxes in any number of dimensions."""

from __future__ import annotations

import numpy as np

from cphloc.errors import InputError


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute the IoU of every pair of boxes; 0 where both have no volume.

    Args:
        boxes: ``(n, 2 D)``.
        others: ``(m, 2 D)``.

    Returns:
        ``(n, m)`` in [0, 1].

    Raises:
        InputError: a box has an upper edge below its lower edge, or the two arrays differ in dimension.

    >>> box_iou([[0, 0, 100, 100]], [[0, 0, 50, 50], [0, 0, 100, 100]])
    array([[0.25, 1.  ]])
    """
    boxes, others = (np.atleast_2d(np.asarray(b, float)) for b in (boxes, others))
    if boxes.shape[1] != others.shape[1]:
        msg = f"boxes have {boxes.shape[1]} and {others.shape[1]} coordinates; both need two per dimension"
        raise InputError(msg)
    dims = boxes.shape[1] // 2
    (low, high), (other_low, other_high) = ((b[:, :dims], b[:, dims:]) for b in (boxes, others))
    for b, lower, upper in ((boxes, low, high), (others, other_low, other_high)):
        if (upper < lower).any():
            msg = f"box {b[(upper < lower).any(axis=1)][0].tolist()} has hi < lo; expected [lo..., hi...]"
            raise InputError(msg)
    shared = np.minimum(high[:, None], other_high) - np.maximum(low[:, None], other_low)
    intersection = shared.clip(min=0).prod(axis=-1)
    union = (high - low).prod(axis=-1)[:, None] + (other_high - other_low).prod(axis=-1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def box_iof(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Compute the share of each box inside each region, by which COCO compares detections with crowd regions.

    Args:
        boxes: ``(n, 2 D)``.
        regions: ``(m, 2 D)``.

    Returns:
        ``(n, m)`` in [0, 1]; 0 for a box without volume.

    >>> box_iof([[0, 0, 10, 10]], [[0, 0, 5, 100]])
    array([[0.5]])
    """
    boxes, regions = (np.atleast_2d(np.asarray(b, float)) for b in (boxes, regions))
    dims = boxes.shape[1] // 2
    shared = np.minimum(boxes[:, None, dims:], regions[:, dims:]) - np.maximum(boxes[:, None, :dims], regions[:, :dims])
    volume = (boxes[:, dims:] - boxes[:, :dims]).prod(axis=-1)[:, None]
    inside = shared.clip(min=0).prod(axis=-1)
    return np.divide(inside, volume, out=np.zeros_like(inside), where=volume > 0)
