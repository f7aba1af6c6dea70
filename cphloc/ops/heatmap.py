"""Gaussian heat maps of object centres, and the peaks of a predicted one (Zhou et al. 2019, CenterNet)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def gaussian_radius(size: Tensor, overlap: float = 0.7) -> Tensor:
    """Largest shift ``(n,)`` of a box's corners, on every axis alike, that keeps an IoU of ``overlap``.

    The corners may move the same way, both outwards or both inwards; the least of the three counts. (The reference
    implementation of CenterNet forgets to divide its roots by 2a.)

    Args:
        size: ``(n, D)`` in cells.
        overlap: IoU in (0, 1).
    """
    volume = size.prod(dim=-1)

    def shifted(r: Tensor) -> Tensor:
        common = (size - r[:, None]).clamp(min=0).prod(dim=-1)
        return common / (2 * volume - common)

    def smaller(r: Tensor) -> Tensor:
        return (size - 2 * r[:, None]).clamp(min=0).prod(dim=-1) / volume

    def larger(r: Tensor) -> Tensor:
        return volume / (size + 2 * r[:, None]).prod(dim=-1)

    low, high = torch.zeros_like(volume), size.amax(dim=-1) / overlap
    for _ in range(40):
        middle = (low + high) / 2
        close = torch.stack([f(middle) for f in (shifted, smaller, larger)]).amin(dim=0) >= overlap
        low, high = torch.where(close, middle, low), torch.where(close, high, middle)
    return low


def draw_centres(
    centres: Tensor, sizes: Tensor, classes: Tensor, channels: int, cells: Sequence[int], overlap: float = 0.7
) -> Tensor:
    """Heat map ``(channels, *cells)``: 1 in the cell of each centre, falling off as a Gaussian; the maximum of all.

    Args:
        centres: ``(n, D)`` cell indices.
        sizes: ``(n, D)`` in cells.
        classes: ``(n,)``, 0..channels-1.
        channels: number of classes.
        cells: cells per axis.
        overlap: how good a box moved by the Gaussian's radius (3 sigma) still has to be.
    """
    heat = torch.zeros(channels, *cells, device=centres.device)
    sigma = (2 * gaussian_radius(sizes, overlap).floor() + 1) / 6
    for centre, s, channel in zip(centres, sigma, classes, strict=True):
        bump = heat.new_ones(())
        for axis, n in enumerate(cells):
            off = torch.arange(n, device=heat.device) - centre[axis]
            shape = [1] * len(cells)
            shape[axis] = n
            bump = bump * (-(off**2) / (2 * s**2)).exp().view(shape)
        heat[channel] = torch.maximum(heat[channel], bump)
    return heat


def peaks(heat: Tensor) -> Tensor:
    """``heat`` ``(N, K, *S)`` where a cell is the maximum of its 3 x 3 (x 3) neighbourhood, elsewhere 0."""
    pool = {2: functional.max_pool2d, 3: functional.max_pool3d}[heat.dim() - 2]
    return heat * (pool(heat, 3, 1, 1) == heat)
