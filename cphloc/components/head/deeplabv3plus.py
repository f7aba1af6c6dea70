"""DeepLabV3+: context from dilated convolutions on the coarsest level, details from one finer level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from cphloc.components.loss.dice_ce import DiceCE
from cphloc.config.argument_types import NonNegativeInt, PositiveInt
from cphloc.errors import InputError
from cphloc.ops.layers import ConvBlock, conv_type, initialize, resize
from cphloc.ops.mask_head import MaskHead
from cphloc.structures.levels import Levels


class DeepLabV3Plus(MaskHead):
    """Atrous spatial pyramid pooling (ASPP) on the coarsest level, up-sampled and joined with a finer level.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built; at least two.
        classes: foreground classes, ``{1: tumour}`` or ``[tumour]``.
        channels: channels of the decoder.
        detail: number of the level that gives the details, 0 is the finest. The authors take that of stride 4.
        detail_channels: channels to which the details are reduced.
        rates: dilations of the separable convolutions of ASPP, in cells of the coarsest level; the authors' are for
            stride 16.
        deep_supervision: in training, add a loss of the coarsest level after ASPP with half the weight.
        norm: normalization after each convolution. With ``batch`` a training batch needs at least two images.
        loss: a loss that takes masks; default ``dice_ce``.

    Shapes:
        pyramid to logits ``(N, K + 1, *S)``, background first, interpolated from the level of the details. In training
        with deep supervision a tuple of these and the logits of the coarsest level.

    Raises:
        InputError: ``detail`` is not a level finer than the coarsest.

    Reference: Chen et al. 2018, arXiv:1802.02611; layers as in segmentation-models-pytorch without dropout.

    >>> from cphloc.structures.levels import Level
    >>> head = DeepLabV3Plus((Level(8, (4, 4)), Level(16, (16, 16))), classes=["lesion"], channels=8)
    >>> head((torch.zeros(1, 8, 8, 8), torch.zeros(1, 16, 2, 2))).shape
    torch.Size([1, 2, 32, 32])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        channels: PositiveInt = 256,
        detail: NonNegativeInt = 0,
        detail_channels: PositiveInt = 48,
        rates: Sequence[PositiveInt] = (6, 12, 18),
        deep_supervision: bool = False,
        norm: Literal["group", "batch", "none"] = "group",
        loss: nn.Module | None = None,
    ) -> None:
        if detail >= len(levels) - 1:
            msg = f"deeplabv3plus takes details from level {detail} but of {len(levels)} levels only the first "
            msg += f"{len(levels) - 1} are finer than the coarsest; lower detail"
            raise InputError(msg)
        super().__init__(levels[detail:], classes, loss or DiceCE(), levels[-1:] if deep_supervision else ())
        self.detail = detail
        dims, wide = levels[0].dims, levels[-1].channels
        block = partial(ConvBlock, dims=dims, norm_name=norm, activation_name="relu")
        self.context = nn.ModuleList([block(wide, channels, kernel=1)])
        self.context.extend(_separable(wide, channels, rate, block) for rate in rates)
        self.context.append(_GlobalContext(wide, channels, block))
        self.project = nn.Sequential(
            block(len(self.context) * channels, channels, kernel=1), _separable(channels, channels, 1, block)
        )
        self.reduce = block(levels[detail].channels, detail_channels, kernel=1)
        self.fuse = _separable(detail_channels + channels, channels, 1, block)
        self.score = conv_type(dims)(channels, self.channels, 1)
        if deep_supervision:
            self.coarse_score = conv_type(dims)(channels, self.channels, 1)
        initialize(self)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Logits at full resolution; in training with deep supervision also those of the coarsest level."""
        context = self.project(torch.cat([part(pyramid[-1]) for part in self.context], dim=1))
        detail = self.reduce(pyramid[self.detail])
        fused = self.fuse(torch.cat([resize(context, detail.shape[2:]), detail], dim=1))
        coarser = [self.coarse_score(context)] if self.training and self.supervised else []
        return self.answer(self.score(fused), coarser)


class _GlobalContext(nn.Module):
    """Mean of the map, convolved and repeated at every cell."""

    def __init__(self, wide: int, channels: int, block: partial[ConvBlock]) -> None:
        super().__init__()
        self.block = block(wide, channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, wide, *S)`` to ``(N, channels, *S)``."""
        mean = x.mean(dim=tuple(range(2, x.dim())), keepdim=True)
        return self.block(mean).expand(-1, -1, *x.shape[2:])


def _separable(wide: int, width: int, dilation: int, block: partial[ConvBlock]) -> nn.Sequential:
    """Depthwise 3x3 (x3) convolution, then a 1x1 convolution with norm and activation."""
    conv = conv_type(block.keywords["dims"])
    depthwise = conv(wide, wide, 3, padding=dilation, dilation=dilation, groups=wide, bias=False)
    return nn.Sequential(depthwise, block(wide, width, kernel=1))
