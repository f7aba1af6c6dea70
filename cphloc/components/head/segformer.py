"""SegFormer's decoder: one linear layer per level, then one over all levels on the finest grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cphloc.components.loss.dice_ce import DiceCE
from cphloc.config.argument_types import PositiveInt
from cphloc.ops.layers import ConvBlock, Norm, conv_type, initialize, resize
from cphloc.ops.mask_head import MaskHead
from cphloc.structures.levels import Levels


class SegFormer(MaskHead):
    """All-MLP decoder: project each level to the same channels, interpolate to the finest one, concatenate, mix, score.

    It has no spatial kernels, so that context has to come from the backbone, such as timm's ``pvt_v2_b0`` or
    ``swin_tiny_patch4_window7_224``.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: tumour}`` or ``[tumour]``.
        channels: channels of the projections.
        deep_supervision: in training, add losses of the projections of the coarser levels; weights 1, 1/2, 1/4, ...
            scaled to sum 1.
        norm: normalization after the layer that mixes the levels; the authors' is ``batch``.
        loss: a loss that takes masks; default ``dice_ce``.

    Shapes:
        pyramid to logits ``(N, K + 1, *S)``, background first, interpolated from the finest level. In training with
        deep supervision a tuple of logits, fine to coarse, each at its own level.

    Reference: Xie et al. 2021, arXiv:2105.15203; layers as in segmentation-models-pytorch.

    >>> from cphloc.structures.levels import Level
    >>> head = SegFormer((Level(8, (4, 4)), Level(16, (8, 8))), classes=["lesion"], channels=8)
    >>> head((torch.zeros(1, 8, 8, 8), torch.zeros(1, 16, 4, 4))).shape
    torch.Size([1, 2, 32, 32])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        channels: PositiveInt = 256,
        deep_supervision: bool = False,
        norm: Norm = "instance",
        loss: nn.Module | None = None,
    ) -> None:
        super().__init__(levels, classes, loss or DiceCE(), levels[1:-1] if deep_supervision else ())
        dims = levels[0].dims
        conv = conv_type(dims)
        self.projections = nn.ModuleList(conv(level.channels, channels, 1) for level in levels)
        self.mix = ConvBlock(len(levels) * channels, channels, dims, 1, norm_name=norm, activation_name="relu")
        self.score = conv(channels, self.channels, 1)
        self.coarser_scores = nn.ModuleList(conv(channels, self.channels, 1) for _ in self.supervised)
        initialize(self)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Logits at full resolution; in training with deep supervision one tensor per supervised level."""
        maps = [project(x) for project, x in zip(self.projections, pyramid, strict=True)]
        together = torch.cat([resize(x, maps[0].shape[2:]) for x in reversed(maps)], dim=1)
        coarser = [score(x) for score, x in zip(self.coarser_scores, maps[1:], strict=False) if self.training]
        return self.answer(self.score(self.mix(together)), coarser)
