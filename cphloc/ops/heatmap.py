"""Gaussian heat maps of object centres, and peaks of predicted heat maps (Zhou et al. 2019, CenterNet)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def gaussian_radius(size: Tensor, overlap: float = 0.7) -> Tensor:
    """Largest displacement ``(n,)`` of a box's corners, equal on all axes, with IoU of at least ``overlap``.

    The IoU is that of the displaced with the original box. Three displacements are considered and the smallest result
    is returned: both corners moved in the same direction, both outwards, and both inwards. Computed by bisection. (The
    reference implementation of CenterNet differs: it omits a division by 2a in its quadratic formula.)

    Args:
        size: box sizes ``(n, D)`` in cells.
        overlap: IoU in (0, 1).

    Returns:
        radius ``(n,)`` in cells.
    """
    volume = size.prod(dim=-1)

    def shifted(r: Tensor) -> Tensor:
        """Return the IoU of a box of the same size whose corners are shifted by ``r``."""
        common = (size - r[:, None]).clamp(min=0).prod(dim=-1)
        return common / (2 * volume - common)

    def smaller(r: Tensor) -> Tensor:
        """Return the IoU of a box whose corners are moved inwards by ``r``."""
        return (size - 2 * r[:, None]).clamp(min=0).prod(dim=-1) / volume

    def larger(r: Tensor) -> Tensor:
        """Return the IoU of a box whose corners are moved outwards by ``r``."""
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
    """Draw a heat map ``(channels, *cells)``: a Gaussian with peak 1 at each centre; where they overlap, their maximum.

    Args:
        centres: cell indices ``(n, D)``.
        sizes: box sizes ``(n, D)`` in cells.
        classes: class indices ``(n,)``, 0..channels-1.
        channels: number of classes.
        cells: cells per axis.
        overlap: IoU that determines the width of the Gaussians: with r the `gaussian_radius`, sigma is (2 r + 1) / 6.
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
    """Set ``heat`` ``(N, K, *S)`` to 0 except where it is the maximum of its 3 x 3 (x 3) neighbourhood."""
    pool = {2: functional.max_pool2d, 3: functional.max_pool3d}[heat.dim() - 2]
    return heat * (pool(heat, 3, 1, 1) == heat)
