"""Convert 2-D convolution kernels for 3-D networks, and for images with another number of channels.

Carreira & Zisserman 2017 (I3D), arXiv:1705.07750. A correct conversion gives, for a volume that repeats one slice along
depth, the output of the 2-D network at every slice.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def inflate(weight: Tensor, depth: int, mode: Literal["average", "centre"] = "average") -> Tensor:
    """Convert a 2-D kernel ``(O, I, h, w)`` to a 3-D kernel ``(O, I, depth, h, w)``.

    ``average`` repeats the kernel divided by ``depth``; for a volume of equal slices it gives the 2-D output except
    where padding along depth is reached. ``centre`` puts the kernel into the middle slice and zeros into the others; it
    gives the 2-D output everywhere, but sees nothing along depth until it is trained.

    >>> inflate(torch.ones(1, 1, 1, 1), 3, "centre").flatten()
    tensor([0., 1., 0.])
    """
    if mode == "average":
        return (weight / depth)[:, :, None].expand(-1, -1, depth, -1, -1).contiguous()
    inflated = weight.new_zeros((*weight.shape[:2], depth, *weight.shape[2:]))
    inflated[:, :, depth // 2] = weight
    return inflated


def with_input_channels(weight: Tensor, channels: int) -> Tensor:
    """Convert the first kernel of a network, ``(O, I, *k)``, to one for images with ``channels`` channels.

    Each new channel gets the sum over the old ones divided by ``channels``, so that a grey image copied into all
    channels gives the same output as before. A kernel with ``channels`` input channels is returned unchanged.

    >>> with_input_channels(torch.tensor([[[[1.0]], [[2.0]], [[3.0]]]]), 2).flatten()
    tensor([3., 3.])
    """
    if weight.shape[1] == channels:
        return weight
    mean = weight.sum(dim=1, keepdim=True) / channels
    return torch.cat([mean] * channels, dim=1)
