"""Feature pyramid network (FPN): a top-down path that adds coarse features to fine ones."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import NonNegativeInt, PositiveInt
from cphloc.ops.layers import conv_type, fit, initialize
from cphloc.structures.levels import Level, Levels, level_at


class FPN(nn.Module):
    """P_l = conv3(lateral1(C_l) + up(P_{l+1})), nearest up-sampling by the per-axis ratio of the strides.

    Args:
        levels: pyramid levels of the backbone, set when the model is built.
        channels: channels of every output level.
        finest: index of the finest backbone level to use; finer ones are left out.
        extra_levels: further levels below the coarsest, each a stride-2 convolution (RetinaNet's P6, P7).

    Shapes:
        one ``(N, C_l, *S_l)`` per level to one ``(N, channels, *S_l)`` per kept level, then the extra ones. Sizes may
        be odd: the up-sampled map is cropped onto its lateral (13 to 25, not 26).

    Raises:
        InputError: the pyramid has no level ``finest``.

    Reference: Lin et al. 2017, arXiv:1612.03144; extra levels Lin et al. 2017, arXiv:1708.02002.

    >>> FPN((Level(8, (1, 2, 2)), Level(16, (1, 4, 4))), channels=4, extra_levels=1).levels[-1]
    Level(channels=4, stride=(2, 8, 8))
    """

    def __init__(
        self, levels: Levels, channels: PositiveInt = 256, finest: NonNegativeInt = 0, extra_levels: NonNegativeInt = 0
    ) -> None:
        super().__init__()
        self.finest = finest
        level_at(levels, finest)
        kept = levels[finest:]
        conv = conv_type(kept[0].dims)
        self.lateral = nn.ModuleList(conv(level.channels, channels, 1) for level in kept)
        self.smooth = nn.ModuleList(conv(channels, channels, 3, padding=1) for _ in kept)
        self.extra = nn.ModuleList(conv(channels, channels, 3, 2, 1) for _ in range(extra_levels))
        self.levels: Levels = tuple(Level(channels, level.stride) for level in kept)
        for _ in self.extra:
            self.levels += (Level(channels, tuple(2 * s for s in self.levels[-1].stride)),)
        initialize(self)

    def forward(self, pyramid: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Fused pyramid, fine to coarse."""
        merged = [lateral(x) for lateral, x in zip(self.lateral, pyramid[self.finest :], strict=True)]
        for i in range(len(merged) - 2, -1, -1):
            merged[i] = merged[i] + _enlarge(merged[i + 1], self.levels[i + 1], self.levels[i], merged[i])
        out = [smooth(x) for smooth, x in zip(self.smooth, merged, strict=True)]
        for step in self.extra:
            out.append(step(functional.relu(out[-1]) if len(out) > len(self.smooth) else out[-1]))
        return tuple(out)


def _enlarge(x: Tensor, coarse: Level, fine: Level, like: Tensor) -> Tensor:
    for axis, (c, f) in enumerate(zip(coarse.stride, fine.stride, strict=True), start=2):
        if c != f:
            x = x.repeat_interleave(c // f, dim=axis)
    return fit(x, like.shape[2:], "edge")
