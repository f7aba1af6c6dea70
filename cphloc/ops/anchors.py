"""Anchor boxes and points on the grid of a feature map."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from cphloc.ops.boxes import from_centre_size
from cphloc.structures.levels import Level

OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
"""Scales of RetinaNet's anchors."""

RATIOS = (0.5, 1.0, 2.0)
"""Aspect ratios of RetinaNet's anchors."""

CELLS_ACROSS = 4.0
"""Side of RetinaNet's anchors at scale 1, in cells: 32 pixels at stride 8 (Lin et al. 2017, arXiv:1708.02002)."""


def cell_centres(cells: Sequence[int], stride: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Centres ``(i + 1/2) * stride`` of all cells, in image voxels: ``(prod(cells), D)``, last axis varying fastest.

    >>> cell_centres((1, 2), (4, 4)).tolist()
    [[2.0, 2.0], [2.0, 6.0]]
    """
    axes = [(torch.arange(n, device=device, dtype=torch.float32) + 0.5) * s for n, s in zip(cells, stride, strict=True)]
    return torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")], dim=1)


def grid_anchors(
    cells: Sequence[int], stride: Sequence[int], sizes: Sequence[Sequence[float]], device: torch.device | None = None
) -> Tensor:
    """Boxes of all ``sizes`` at the centre of every cell: ``(prod(cells) * len(sizes), 2 D)``, sizes varying fastest.

    Args:
        cells: cells per axis.
        stride: image voxels per cell and axis.
        sizes: anchor sizes per axis, in image voxels.
        device: device of the result.
    """
    centres = cell_centres(cells, stride, device)
    extent = torch.tensor(sizes, dtype=torch.float32, device=device)
    return from_centre_size(centres[:, None], extent[None]).flatten(0, 1)


def retina_sizes(level: Level) -> list[list[float]]:
    """The nine anchor sizes of RetinaNet at one level: three octave scales times three ratios of the last two axes.

    >>> retina_sizes(Level(8, (8, 8)))[1]
    [32.0, 32.0]
    """
    sizes = []
    for octave, ratio in itertools.product(OCTAVES, RATIOS):
        shape = [1.0] * (level.dims - 2) + [ratio**0.5, ratio**-0.5]
        sizes.append([CELLS_ACROSS * octave * s * r for s, r in zip(level.stride, shape, strict=True)])
    return sizes
