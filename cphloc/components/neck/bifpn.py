"""Bidirectional feature pyramid (BiFPN): repeated top-down and bottom-up fusion with learned weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import NonNegativeInt, PositiveInt
from cphloc.ops.layers import ConvBlock, conv_type, fit, initialize
from cphloc.structures.levels import Level, Levels, level_at


class BiFPN(nn.Module):
    """Fuse a pyramid top-down, then bottom-up, ``repeats`` times; every input of a fusion has a learned weight.

    Args:
        levels: pyramid levels of the backbone, set when the model is built.
        channels: channels of every output level.
        repeats: number of top-down and bottom-up rounds.
        finest: index of the finest backbone level to use; finer ones are left out.

    Shapes:
        one ``(N, C_l, *S_l)`` per level to one ``(N, channels, *S_l)`` per kept level. Sizes may be odd: enlarged maps
        are cropped onto their neighbour, reduced ones rounded up.

    Raises:
        InputError: the pyramid has no level ``finest``.

    Reference: Tan et al. 2020, EfficientDet, arXiv:1911.09070.

    >>> BiFPN((Level(8, (1, 4, 4)), Level(16, (2, 8, 8))), channels=4).levels[1]
    Level(channels=4, stride=(2, 8, 8))
    """

    def __init__(
        self, levels: Levels, channels: PositiveInt = 64, repeats: PositiveInt = 2, finest: NonNegativeInt = 0
    ) -> None:
        super().__init__()
        self.finest = finest
        level_at(levels, finest)
        kept = levels[finest:]
        conv = conv_type(kept[0].dims)
        self.lateral = nn.ModuleList(conv(level.channels, channels, 1) for level in kept)
        self.levels: Levels = tuple(Level(channels, level.stride) for level in kept)
        self.layers = nn.ModuleList(_Round(self.levels) for _ in range(repeats))
        initialize(self)

    def forward(self, pyramid: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Fused pyramid, fine to coarse."""
        fused = [lateral(x) for lateral, x in zip(self.lateral, pyramid[self.finest :], strict=True)]
        for layer in self.layers:
            fused = layer(fused)
        return tuple(fused)


class _Round(nn.Module):
    """One top-down and one bottom-up pass."""

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        steps = len(levels) - 1
        self.ratios = [
            tuple(c // f for c, f in zip(coarse.stride, fine.stride, strict=True)) for fine, coarse in pairwise(levels)
        ]
        # on the way up the coarsest level has no intermediate of its own, so one input fewer
        self.down = nn.ModuleList(_Fusion(levels[0], 2) for _ in range(steps))
        self.up = nn.ModuleList(_Fusion(levels[0], 3 if i < steps - 1 else 2) for i in range(steps))

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Fuse the levels from coarse to fine, then from fine to coarse."""
        middle = list(pyramid)
        for i in range(len(self.down) - 1, -1, -1):
            middle[i] = self.down[i]([pyramid[i], _enlarged(middle[i + 1], self.ratios[i], pyramid[i])])
        out = [middle[0]]
        for i, fusion in enumerate(self.up):
            inputs = [pyramid[i + 1], _reduced(out[i], self.ratios[i])]
            out.append(fusion([*inputs, middle[i + 1]] if i < len(self.up) - 1 else inputs))
        return out


class _Fusion(nn.Module):
    """Weighted mean of maps of one shape, then a convolution."""

    def __init__(self, level: Level, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(inputs))
        self.conv = ConvBlock(level.channels, level.channels, level.dims, norm_name="group", activation_name="silu")

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the weighted mean of the maps, convolved."""
        weight = functional.relu(self.weight)
        return self.conv(sum(w * x for w, x in zip(weight, maps, strict=True)) / (weight.sum() + 1e-4))


def _enlarged(x: Tensor, ratio: Sequence[int], like: Tensor) -> Tensor:
    for axis, factor in enumerate(ratio, start=2):
        x = x.repeat_interleave(factor, dim=axis)
    return fit(x, like.shape[2:], "edge")


def _reduced(x: Tensor, ratio: Sequence[int]) -> Tensor:
    pool = {2: functional.max_pool2d, 3: functional.max_pool3d}[len(ratio)]
    return pool(x, tuple(ratio), tuple(ratio), ceil_mode=True)
