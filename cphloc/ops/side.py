"""Side of an image that contains a finding.

The sides are the two halves of the last axis, which in canonical orientation runs from the patient's right to left.
The side is computed from the region, so it is correct for a mirrored image whose region is mirrored as well.
"""

from __future__ import annotations

import torch
from torch import Tensor


def side_of(region: Tensor) -> Tensor:
    """Return the half of the last axis that contains more of a region: int64 ``(N,)``, 0 lower, 1 upper.

    It is -1 if the region is empty or is divided evenly between both halves.

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
    """Return the fraction ``(W,)`` of each column of the last axis in its lower half; 0.5 for a middle column."""
    width = like.shape[-1]
    return (width / 2 - torch.arange(width, device=like.device, dtype=torch.float32)).clamp(0, 1)


def half_of(region: Tensor) -> Tensor:
    """Return the half of the image ``(N, *S')`` that contains more of a region; empty where `side_of` is -1."""
    side = side_of(region).view(-1, *(1,) * (region.dim() - 1))
    lower = lower_half(region).expand_as(region)
    return torch.where(side < 0, 0.0, torch.where(side == 0, lower, 1 - lower))
