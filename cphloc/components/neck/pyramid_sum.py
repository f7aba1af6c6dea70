"""Z = Z_coarse + Z_mid + Z_fine: all levels on one grid, added."""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor, nn

from cphloc.config.argument_types import NonNegativeInt, PositiveInt
from cphloc.ops.layers import conv_type, initialize, resize
from cphloc.structures.levels import Level, Levels, level_at


class PyramidSum(nn.Module):
    """Project every level to the same channels, resample it to one grid and add all; the output is one level.

    Args:
        levels: pyramid levels of the backbone, set when the model is built.
        channels: channels of the output.
        level: index of the level whose grid the output has, the finest by default; finer levels are not used.

    Shapes:
        one ``(N, C_l, *S_l)`` per level to one ``(N, channels, *S_level)``. Each level is weighted so that the sum of
        independent levels has about the spread of one.

    Raises:
        InputError: the pyramid has no level ``level``.

    Reference: Yala, CPH 100A, Localization and Segmentation; Kirillov et al. 2019, arXiv:1901.02446.

    >>> PyramidSum((Level(8, (4, 4)), Level(16, (8, 8))), channels=4).levels
    (Level(channels=4, stride=(4, 4)),)
    """

    def __init__(self, levels: Levels, channels: PositiveInt = 128, level: NonNegativeInt = 0) -> None:
        super().__init__()
        self.finest = level
        level_at(levels, level)
        kept = levels[level:]
        self.lateral = nn.ModuleList(conv_type(kept[0].dims)(each.channels, channels, 1) for each in kept)
        self.scale = 1 / math.sqrt(len(kept))
        self.levels: Levels = (Level(channels, kept[0].stride),)
        initialize(self)

    def forward(self, pyramid: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The sum, as a pyramid of one level."""
        kept = pyramid[self.finest :]
        size = kept[0].shape[2:]
        maps = (resize(lateral(x), size) for lateral, x in zip(self.lateral, kept, strict=True))
        return (self.scale * reduce(torch.add, maps),)
