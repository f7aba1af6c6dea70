"""Regions that may contain each other, such as a whole tumour and its core: each has a probability of its own."""

from __future__ import annotations

import torch
from torch import Tensor


def region_pairs(logits: Tensor) -> Tensor:
    """Return the probability to be outside and inside each region, so that windows merge as those of classes do.

    The difference of the logarithms of a pair is the logit. It stays so in a mean over windows, and under linear
    interpolation of logarithms that share an unknown constant.

    Args:
        logits: ``(N, R, *S)``.

    Returns:
        ``(N, 2 R, *S)``: outside region 1, inside region 1, outside region 2, ...

    >>> region_pairs(torch.zeros(1, 2, 1)).flatten().tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    return torch.stack([(-logits).sigmoid(), logits.sigmoid()], dim=2).flatten(1, 2)


def region_logits(pairs: Tensor) -> Tensor:
    """Return the logits ``(R, *S)`` of regions from the logarithms ``(2 R, *S)`` of `region_pairs`."""
    return pairs[1::2] - pairs[::2]


def painted(logits: Tensor) -> Tensor:
    """Give every voxel the last region that contains it.

    Args:
        logits: ``(R, *S)``.

    Returns:
        ``(*S)`` uint8: 0 for background, else the number of the region, from 1.

    >>> painted(torch.tensor([[9.0, 9.0, -1.0], [-9.0, 1.0, 2.0]])).tolist()
    [1, 2, 2]
    """
    mask = torch.zeros(logits.shape[1:], dtype=torch.uint8, device=logits.device)
    for number, one in enumerate(logits, 1):
        mask[one > 0] = number
    return mask
