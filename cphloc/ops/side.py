"""The side of an image a finding lies on.

The sides are the halves of the last axis: columns, which in canonical orientation run from the patient's right to the
left. Mirroring an image must mirror its region too; the side follows by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor


def side_of(region: Tensor) -> Tensor:
    """Half of the last axis that holds more of a region: int64 ``(N,)``, 0 lower, 1 upper, -1 neither.

    Neither, if the region is empty or lies evenly on both sides.

    Args:
        region: ``(N, *S')``.

    >>> side_of(torch.tensor([[[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]], [[1.0, 0.0, 1.0]]])).tolist()
    [1, 0, -1]
    """
    region = region.float()
    total = region.flatten(1).sum(1)
    lower = (region * lower_half(region)).flatten(1).sum(1)
    imbalance = total - 2 * lower
    # Area interpolation rounds, so a region on both sides may differ from balance by some millionths.
    return torch.where(imbalance.abs() <= 1e-3 * total, -1, (imbalance > 0).long())


def lower_half(like: Tensor) -> Tensor:
    """How much of each column ``(W,)`` of the last axis lies in its lower half; an odd middle one does by half."""
    width = like.shape[-1]
    return (width / 2 - torch.arange(width, device=like.device, dtype=torch.float32)).clamp(0, 1)


def half_of(region: Tensor) -> Tensor:
    """Half-image region ``(N, *S')`` on the side of a region; empty where that side is neither."""
    side = side_of(region).view(-1, *(1,) * (region.dim() - 1))
    lower = lower_half(region).expand_as(region)
    return torch.where(side < 0, 0.0, torch.where(side == 0, lower, 1 - lower))
