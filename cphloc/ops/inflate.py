"""Weights of 2-D convolutions for 3-D networks, and for images of another number of channels.

Carreira & Zisserman 2017 (I3D). The check is the boring volume: one slice repeated along depth must give, at every
slice, what the 2-D network gives.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def inflate(weight: Tensor, depth: int, mode: Literal["average", "centre"] = "average") -> Tensor:
    """Kernel ``(O, I, depth, h, w)`` from a 2-D kernel ``(O, I, h, w)``.

    ``average`` repeats the kernel divided by ``depth``; on a boring volume it is exact except where depth padding is
    reached. ``centre`` puts it into the middle slice and zeros elsewhere; exact everywhere, but blind along depth until
    trained.

    >>> inflate(torch.ones(1, 1, 1, 1), 3, "centre").flatten()
    tensor([0., 1., 0.])
    """
    if mode == "average":
        return (weight / depth)[:, :, None].expand(-1, -1, depth, -1, -1).contiguous()
    inflated = weight.new_zeros((*weight.shape[:2], depth, *weight.shape[2:]))
    inflated[:, :, depth // 2] = weight
    return inflated


def with_input_channels(weight: Tensor, channels: int) -> Tensor:
    """First kernel ``(O, channels, *k)`` from one ``(O, I, *k)`` for ``I`` (colour) channels.

    Each new channel gets the sum over the old ones divided by ``channels``, so that an image copied into all channels
    gives what it gave in all old ones. The kernel stays as it is where the number already fits.

    >>> with_input_channels(torch.tensor([[[[1.0]], [[2.0]], [[3.0]]]]), 2).flatten()
    tensor([3., 3.])
    """
    if weight.shape[1] == channels:
        return weight
    mean = weight.sum(dim=1, keepdim=True) / channels
    return torch.cat([mean] * channels, dim=1)
