"""Box operations in any number of dimensions: volume, overlap, conversion, and encoding relative to anchors.

Boxes are ``(..., 2 D)`` tensors ``[lo..., hi...]`` of half-open intervals, in array-axis order and continuous edge
coordinates: voxel i covers [i, i + 1]. Everything is computed in at least float32, because the area of a 512 x 512 box
already overflows half precision.
"""

from __future__ import annotations

import math
from functools import reduce
from operator import mul
from typing import Literal

import torch
from torch import Tensor

from cphloc.errors import InputError

Measure = Literal["iou", "giou", "diou"]

MAX_LOG_SIZE = math.log(1000 / 16)
"""Upper bound of a decoded log size ratio, which keeps box sizes finite; the value of torchvision and detectron2."""


def corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper corners ``(..., D)`` of ``boxes`` ``(..., 2 D)``, in float32 or better.

    Raises:
        InputError: an upper corner is below its lower corner.
    """
    lo, hi = _precise(boxes).chunk(2, dim=-1)
    inverted = (hi < lo).any(dim=-1)
    if not boxes.is_meta and inverted.any():
        msg = f"box {boxes[inverted][0].tolist()} has an upper corner below its lower corner; expected [lo..., hi...]"
        raise InputError(msg)
    return lo, hi


def volume(boxes: Tensor) -> Tensor:
    """Volume (3-D) or area (2-D) ``(...)`` of ``boxes`` ``(..., 2 D)``, in voxels.

    >>> volume(torch.tensor([[0, 0, 512, 512]], dtype=torch.float16))
    tensor([262144.])
    """
    lo, hi = corners(boxes)
    return (hi - lo).prod(dim=-1)


def overlap(a: Tensor, b: Tensor, measure: Measure = "iou") -> Tensor:
    """Element-wise overlap of boxes ``a`` ``(..., 2 D)`` and ``b`` ``(..., 2 D)``, with broadcasting.

    Args:
        a, b: boxes.
        measure: ``iou``, intersection over union in [0, 1]; ``giou`` in (-1, 1], which subtracts the fraction of the
            enclosing box outside the union (Rezatofighi et al. 2019); or ``diou`` in (-1, 1], which subtracts the
            squared centre distance over the squared diagonal of the enclosing box (Zheng et al. 2020). The last two
            also rank boxes that do not overlap. Two boxes without volume have IoU 0.

    Returns:
        ``(...)`` float32, or float64 for float64 boxes.
    """
    (lo_a, hi_a), (lo_b, hi_b) = corners(a), corners(b)
    # One axis at a time, over rows of boxes: with the axes innermost, every operation runs over rows of D numbers.
    sides = zip(*(corner.movedim(-1, 0).contiguous() for corner in (lo_a, hi_a, lo_b, hi_b)), strict=True)
    common = reduce(mul, ((torch.minimum(q, s) - torch.maximum(p, r)).clamp(min=0) for p, q, r, s in sides))
    union = (hi_a - lo_a).prod(dim=-1) + (hi_b - lo_b).prod(dim=-1) - common
    iou = _ratio(common, union)
    if measure == "iou":
        return iou
    enclosing = torch.maximum(hi_a, hi_b) - torch.minimum(lo_a, lo_b)
    if measure == "giou":
        hull = enclosing.prod(dim=-1)
        return iou - _ratio(hull - union, hull)
    distance = ((lo_a + hi_a - lo_b - hi_b) / 2).square().sum(dim=-1)
    return iou - _ratio(distance, enclosing.square().sum(dim=-1))


_PAIRS = 2**17
"""Pairs of boxes that a CPU compares at once, so that the intermediate results stay in its cache."""


def overlap_matrix(a: Tensor, b: Tensor, measure: Measure = "iou") -> Tensor:
    """Pairwise overlap ``(n, m)`` of boxes ``a`` ``(n, 2 D)`` and ``b`` ``(m, 2 D)``; measures as in `overlap`.

    >>> overlap_matrix(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3], [5, 5, 6, 6]]))
    tensor([[0.1429, 0.0000]])
    """
    rows = max(_PAIRS // max(len(b), 1), 1)
    if a.device.type != "cpu" or len(a) <= rows:
        return overlap(a[:, None], b[None], measure)
    return torch.cat([overlap(part[:, None], b[None], measure) for part in a.split(rows)])


def to_centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sizes ``(..., D)`` of ``boxes`` ``(..., 2 D)``."""
    lo, hi = corners(boxes)
    return (lo + hi) / 2, hi - lo


def from_centre_size(centre: Tensor, size: Tensor) -> Tensor:
    """Boxes ``(..., 2 D)`` from centres and sizes ``(..., D)``."""
    centre, size = _precise(centre), _precise(size)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Encode ``boxes`` relative to ``anchors`` as deltas ``(..., 2 D)``.

    The first D are the centre shift divided by the anchor size, the last D the log of the size ratio.

    Raises:
        InputError: a box or an anchor has size 0 along some axis.
    """
    (centre, size), (anchor_centre, anchor_size) = to_centre_size(boxes), to_centre_size(anchors)
    for name, sizes in (("box", size), ("anchor", anchor_size)):
        if (sizes <= 0).any():
            msg = f"a {name} of size 0 cannot be encoded; drop it before the loss"
            raise InputError(msg)
    return torch.cat([(centre - anchor_centre) / anchor_size, (size / anchor_size).log()], dim=-1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Decode boxes ``(..., 2 D)`` from ``deltas`` relative to ``anchors``; the inverse of `encode`.

    Log size ratios are clamped to at most `MAX_LOG_SIZE`, so the result is finite for any finite delta.

    >>> anchor, box = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[1.0, 0, 3, 8]])
    >>> decode(encode(box, anchor), anchor)
    tensor([[1., 0., 3., 8.]])
    """
    shift, log_size = _precise(deltas).chunk(2, dim=-1)
    anchor_centre, anchor_size = to_centre_size(anchors)
    size = anchor_size * log_size.clamp(max=MAX_LOG_SIZE).exp()
    return from_centre_size(anchor_centre + shift * anchor_size, size)


def encode_faces(boxes: Tensor, points: Tensor) -> Tensor:
    """Distances ``(..., 2 D)`` from ``points`` ``(..., D)`` to the lower, then the upper faces of ``boxes``.

    They are all positive exactly if the point is inside the box (Tian et al. 2019, FCOS).
    """
    lo, hi = corners(boxes)
    return torch.cat([points - lo, hi - points], dim=-1)


def decode_faces(distances: Tensor, points: Tensor) -> Tensor:
    """Decode boxes ``(..., 2 D)`` from the distances of points to the faces; the inverse of `encode_faces`."""
    below, above = _precise(distances).chunk(2, dim=-1)
    return torch.cat([points - below, points + above], dim=-1)


def clip(boxes: Tensor, size: tuple[int, ...]) -> Tensor:
    """Clip ``boxes`` ``(..., 2 D)`` to an image of ``size`` voxels; boxes entirely outside get volume 0."""
    limit = torch.tensor(size * 2, dtype=boxes.dtype, device=boxes.device)
    return torch.minimum(boxes.clamp(min=0), limit)


def _precise(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide ``part`` by ``whole``; 0 with zero gradient where ``whole`` is 0."""
    empty = whole == 0
    return torch.where(empty, torch.zeros_like(part), part / torch.where(empty, torch.ones_like(whole), whole))
