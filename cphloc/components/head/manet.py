"""MA-Net: a U-Net decoder with attention over all positions and over the channels of the skip connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from cphloc.components.loss.dice_ce import DiceCE
from cphloc.config.argument_types import PositiveInt
from cphloc.errors import InputError
from cphloc.ops.layers import Activation, ConvBlock, Norm, Upsample, conv_type, initialize, upsample_to
from cphloc.ops.mask_head import MaskHead
from cphloc.structures.levels import Levels


class MANet(MaskHead):
    """Multi-scale attention decoder: position attention on the coarsest level, channel attention at every step up.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built; at least two.
        classes: foreground classes, ``{1: tumour}`` or ``[tumour]``.
        widths: channels of the decoder at each level but the coarsest, fine to coarse; default those of the levels.
        attention_channels: channels in which positions are compared.
        reduction: channels per channel of the bottleneck that computes the channel attention.
        upsample: interpolation of coarser maps, ``nearest`` or ``linear``.
        deep_supervision: in training, add losses of coarser decoder levels; weights 1, 1/2, 1/4, ... scaled to sum 1.
        norm, activation: after each convolution of the decoder.
        loss: a loss that takes masks; default ``dice_ce``.

    Shapes:
        pyramid to logits ``(N, K + 1, *S)``, background first, interpolated from the finest level. In training with
        deep supervision a tuple of logits, fine to coarse, each at its own level. The position attention needs memory
        for the square of the number of cells of the coarsest level.

    Raises:
        InputError: fewer than two levels, or the number of ``widths`` is not that of the levels without the coarsest.

    Reference: Fan et al. 2020, doi 10.1109/ACCESS.2020.3025372; blocks as in segmentation-models-pytorch, whose
    position attention mixes cells and channels by a reshape without a transpose, which is done right here.

    >>> from cphloc.structures.levels import Level
    >>> head = MANet((Level(8, (1, 1)), Level(16, (2, 2))), classes=["lesion"])
    >>> head((torch.zeros(1, 8, 6, 6), torch.zeros(1, 16, 3, 3))).shape
    torch.Size([1, 2, 6, 6])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        widths: Sequence[PositiveInt] | None = None,
        attention_channels: PositiveInt = 64,
        reduction: PositiveInt = 16,
        upsample: Upsample = "nearest",
        deep_supervision: bool = True,
        norm: Norm = "instance",
        activation: Activation = "leaky_relu",
        loss: nn.Module | None = None,
    ) -> None:
        super().__init__(levels, classes, loss or DiceCE(), levels[1:-2] if deep_supervision else ())
        below, dims = len(levels) - 1, levels[0].dims
        widths = widths or [level.channels for level in levels[:-1]]
        if below < 1 or len(widths) != below:
            msg = f"manet has {below} levels below the coarsest but {len(widths)} widths; give one for each level"
            raise InputError(msg)
        block = partial(ConvBlock, dims=dims, norm_name=norm, activation_name=activation)
        self.centre = PositionAttention(levels[-1].channels, attention_channels, dims)
        entering = pairwise([*widths, levels[-1].channels])
        self.steps = nn.ModuleList(
            _Step(coarse, level.channels, width, reduction, upsample, block)
            for level, (width, coarse) in zip(levels[:-1], entering, strict=True)
        )
        scored = widths[: len(self.weights)]
        self.score = nn.ModuleList(conv_type(dims)(width, self.channels, 1) for width in scored)
        initialize(self)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Logits at full resolution; in training with deep supervision one tensor per supervised level."""
        maps = [self.centre(pyramid[-1])]
        for step, skip in zip(reversed(self.steps), reversed(pyramid[:-1]), strict=True):
            maps.append(step(maps[-1], skip))
        scored = maps[::-1][: len(self.weights) if self.training else 1]
        full, *coarser = (score(x) for score, x in zip(self.score, scored, strict=False))
        return self.answer(full, coarser)


class PositionAttention(nn.Module):
    """Add to each cell a mean of the features of all cells, weighted by likeness; softmax over all pairs of cells.

    Args:
        channels: channels of the map.
        inner: channels in which cells are compared.
        dims: spatial axes.
    """

    def __init__(self, channels: int, inner: int, dims: int) -> None:
        super().__init__()
        conv = conv_type(dims)
        self.key, self.query = conv(channels, inner, 1), conv(channels, inner, 1)
        self.value, self.out = conv(channels, channels, 3, padding=1), conv(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, *S)`` to the same shape."""
        key, query, value = (layer(x).flatten(2) for layer in (self.key, self.query, self.value))
        likeness = query.transpose(1, 2) @ key
        share = likeness.float().flatten(1).softmax(dim=1).view_as(likeness).to(value.dtype)
        return self.out(x + (value @ share.transpose(1, 2)).view_as(x))


class _Step(nn.Module):
    """Multi-scale fusion attention: weight the channels of the up-sampled map by both maps, concatenate, convolve."""

    def __init__(
        self, coarse: int, fine: int, width: int, reduction: int, upsample: Upsample, block: partial[ConvBlock]
    ) -> None:
        super().__init__()
        self.entry = nn.Sequential(block(coarse, coarse), block(coarse, fine, kernel=1))
        self.of_skip, self.of_coarse = (_channel_attention(fine, reduction, block.keywords["dims"]) for _ in range(2))
        self.blocks = nn.Sequential(block(2 * fine, width), block(width, width))
        self.upsample: Upsample = upsample

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Coarser map ``(N, coarse, *S')`` and skip ``(N, fine, *S)`` to ``(N, width, *S)``."""
        x = upsample_to(self.entry(x), skip.shape[2:], self.upsample)
        weight = self.of_coarse(_mean(x)) + self.of_skip(_mean(skip))
        return self.blocks(torch.cat([x * weight, skip], dim=1))


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


def _channel_attention(channels: int, reduction: int, dims: int) -> nn.Sequential:
    """Weights of channels from their means (squeeze and excitation, Hu et al. 2018, arXiv:1709.01507)."""
    inner, conv = max(1, channels // reduction), conv_type(dims)
    return nn.Sequential(conv(channels, inner, 1), nn.ReLU(), conv(inner, channels, 1), nn.Sigmoid())
