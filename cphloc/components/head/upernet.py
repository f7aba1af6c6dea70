"""UPerNet: pyramid pooling on the coarsest level, a feature pyramid, and class scores of all its levels together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from cphloc.components.loss.dice_ce import DiceCE
from cphloc.config.argument_types import PositiveInt
from cphloc.ops.layers import ConvBlock, conv_type, initialize, pool_to, resize
from cphloc.ops.mask_head import MaskHead
from cphloc.structures.levels import Levels


class UPerNet(MaskHead):
    """Unified perceptual parsing network: pooled context, top-down sums, then all levels on the finest grid.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: tumour}`` or ``[tumour]``.
        channels: channels of the decoder at every level.
        bins: windows per axis of each pooling of the coarsest level (pyramid scene parsing, PSP).
        deep_supervision: in training, add losses of the coarser top-down maps; weights 1, 1/2, ... scaled to sum 1.
        norm: normalization after each convolution. With ``batch`` a training batch needs at least two images.
        loss: a loss that takes masks; default ``dice_ce``.

    Shapes:
        pyramid to logits ``(N, K + 1, *S)``, background first, interpolated from the finest level. In training with
        deep supervision a tuple of logits, fine to coarse, each at its own level.

    Reference: Xiao et al. 2018, arXiv:1807.10221; pooling Zhao et al. 2017, arXiv:1612.01105; layers as in
    segmentation-models-pytorch, whose maps of every level first pass a layer norm over the channels.

    >>> from cphloc.structures.levels import Level
    >>> head = UPerNet((Level(8, (4, 4)), Level(16, (8, 8))), classes=["lesion"], channels=8)
    >>> head((torch.zeros(1, 8, 8, 8), torch.zeros(1, 16, 4, 4))).shape
    torch.Size([1, 2, 32, 32])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        channels: PositiveInt = 256,
        bins: Sequence[PositiveInt] = (1, 2, 3, 6),
        deep_supervision: bool = False,
        norm: Literal["group", "batch", "none"] = "group",
        loss: nn.Module | None = None,
    ) -> None:
        super().__init__(levels, classes, loss or DiceCE(), levels[1:-1] if deep_supervision else ())
        dims, wide = levels[0].dims, levels[-1].channels
        block = partial(ConvBlock, dims=dims, norm_name=norm, activation_name="relu")
        self.entry = nn.ModuleList(_ChannelNorm(level.channels) for level in levels)
        self.bins = list(bins)
        self.pooled = nn.ModuleList(block(wide, channels, kernel=1) for _ in self.bins)
        self.context = block(wide + len(self.bins) * channels, channels)
        self.lateral = nn.ModuleList(block(level.channels, channels, kernel=1) for level in levels[:-1])
        self.smooth = nn.ModuleList(block(channels, channels) for _ in levels[:-1])
        self.fuse = block(len(levels) * channels, channels)
        self.score = conv_type(dims)(channels, self.channels, 1)
        self.coarser_scores = nn.ModuleList(conv_type(dims)(channels, self.channels, 1) for _ in self.supervised)
        initialize(self)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Logits at full resolution; in training with deep supervision one tensor per supervised level."""
        maps = [norm(x) for norm, x in zip(self.entry, pyramid, strict=True)]
        size = maps[-1].shape[2:]
        pooled = [resize(block(pool_to(maps[-1], n)), size) for block, n in zip(self.pooled, self.bins, strict=True)]
        sums = [self.context(torch.cat([maps[-1], *pooled], dim=1))]
        for lateral, x in zip(reversed(self.lateral), reversed(maps[:-1]), strict=True):
            sums.append(resize(sums[-1], x.shape[2:]) + lateral(x))
        context, *sums = sums
        levels = [smooth(x) for smooth, x in zip(self.smooth, reversed(sums), strict=True)] + [context]
        together = torch.cat([resize(x, levels[0].shape[2:]) for x in levels], dim=1)
        coarser = [score(x) for score, x in zip(self.coarser_scores, levels[1:], strict=False) if self.training]
        return self.answer(self.score(self.fuse(together)), coarser)


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each cell of ``(N, C, *S)``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each cell."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)
