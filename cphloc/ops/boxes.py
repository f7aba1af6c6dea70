"""Boxes in any number of dimensions: volumes, overlaps, and how a network's numbers become boxes.

A box is ``[lo..., hi...]`` in continuous edge coordinates and array-axis order, half-open, so a ``(..., 2 D)`` tensor.
Everything is computed in at least float32: the area of a 512 x 512 box already overflows half precision.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from cphloc.errors import InputError

Measure = Literal["iou", "giou", "diou"]

MAX_LOG_SIZE = math.log(1000 / 16)
"""Upper bound of a decoded log size ratio, so that a wild prediction stays finite (Ren et al. 2015)."""


def corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper corners ``(..., D)`` of ``boxes`` ``(..., 2 D)``, in float32 or better.

    Raises:
        InputError: an upper corner lies below its lower corner.
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
    """Overlap of boxes one by one, ``(..., 2 D)`` against ``(..., 2 D)`` with broadcasting.

    Intersection over union in [0, 1]; ``giou`` in (-1, 1] subtracts the empty share of the enclosing box (Rezatofighi
    et al. 2019), ``diou`` in (-1, 1] the squared centre distance over the squared enclosing diagonal (Zheng et al.
    2020), so that boxes apart still differ. Two boxes without volume have IoU 0.

    Returns:
        the measure, ``(...)`` float32 or better.
    """
    (lo_a, hi_a), (lo_b, hi_b) = corners(a), corners(b)
    common = (torch.minimum(hi_a, hi_b) - torch.maximum(lo_a, lo_b)).clamp(min=0).prod(dim=-1)
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


def overlap_matrix(a: Tensor, b: Tensor, measure: Measure = "iou") -> Tensor:
    """Overlap ``(n, m)`` of every box of ``a`` ``(n, 2 D)`` with every box of ``b`` ``(m, 2 D)``.

    >>> overlap_matrix(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3], [5, 5, 6, 6]]))
    tensor([[0.1429, 0.0000]])
    """
    return overlap(a[:, None], b[None], measure)


def to_centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sizes ``(..., D)`` of ``boxes`` ``(..., 2 D)``."""
    lo, hi = corners(boxes)
    return (lo + hi) / 2, hi - lo


def from_centre_size(centre: Tensor, size: Tensor) -> Tensor:
    """Boxes ``(..., 2 D)`` from centres and sizes ``(..., D)``."""
    centre, size = _precise(centre), _precise(size)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Deltas ``(..., 2 D)`` that turn ``anchors`` into ``boxes``: centre shift over anchor size, then log size ratio.

    Raises:
        InputError: a box or an anchor has no size along some axis.
    """
    (centre, size), (anchor_centre, anchor_size) = to_centre_size(boxes), to_centre_size(anchors)
    for name, sizes in (("box", size), ("anchor", anchor_size)):
        if (sizes <= 0).any():
            msg = f"a {name} of size 0 cannot be encoded; drop it before the loss"
            raise InputError(msg)
    return torch.cat([(centre - anchor_centre) / anchor_size, (size / anchor_size).log()], dim=-1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Boxes ``(..., 2 D)`` from ``deltas`` and ``anchors``; the inverse of `encode`.

    Log sizes are limited to `MAX_LOG_SIZE`, so that the result is finite for any finite delta.

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

    All are positive exactly where the point lies inside (Tian et al. 2019).
    """
    lo, hi = corners(boxes)
    return torch.cat([points - lo, hi - points], dim=-1)


def decode_faces(distances: Tensor, points: Tensor) -> Tensor:
    """Boxes ``(..., 2 D)`` from distances to the faces; the inverse of `encode_faces`."""
    below, above = _precise(distances).chunk(2, dim=-1)
    return torch.cat([points - below, points + above], dim=-1)


def clip(boxes: Tensor, size: tuple[int, ...]) -> Tensor:
    """``boxes`` ``(..., 2 D)`` cut to an image of ``size`` voxels; one wholly outside keeps no volume."""
    limit = torch.tensor(size * 2, dtype=boxes.dtype, device=boxes.device)
    return torch.minimum(boxes.clamp(min=0), limit)


def _precise(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, and 0 with a zero gradient where the whole is 0."""
    empty = whole == 0
    return torch.where(empty, torch.zeros_like(part), part / torch.where(empty, torch.ones_like(whole), whole))
