"""Residual encoder: the encoder of nnU-Net's ResEnc presets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise

from torch import Tensor, nn

from cphloc.config.argument_types import PerAxis, PositiveInt, Widths
from cphloc.errors import InputError
from cphloc.ops.layers import Activation, ConvBlock, Norm, ResidualBlock, initialize, per_axis
from cphloc.structures.levels import Level, Levels

_BLOCKS = (1, 3, 4, 6)
"""Blocks of the first stages in nnU-Net's ResEnc plans; each further stage has 6."""

_WIDEST = {2: 512, 3: 320}
"""Largest number of channels in nnU-Net's plans, by the number of spatial axes."""


class ResidualEncoder(nn.Module):
    """Encoder of nnU-Net's residual-encoder U-Net (ResEnc): many residual blocks in the deep, coarse stages.

    A convolution to the channels of the first stage, then stages of residual blocks whose identity is shrunk by average
    pooling. nnU-Net's ResEnc U-Net is this backbone with ``unet`` as the head and ``convolutions: 1``.

    Args:
        in_channels: image channels (set when the model is built).
        dims: spatial axes (set when the model is built).
        widths: channels of each stage; their number is the number of stages. Default five stages of 32, 64, 128, 256
            and 512 channels, in 3-D 320 instead of 512. For large patches nnU-Net adds stages of 512 (320) channels.
        blocks: residual blocks of two convolutions in each stage; default 1, 3, 4 and then 6, as in nnU-Net.
        strides: stride of each stage relative to the one before, one number or one per axis in array order;
            default 1 for the first stage and 2 for the others.
        kernels: kernel size of each stage, one number or one per axis; default 3.
        norm: normalization after each convolution.
        activation: activation function.

    Shapes:
        ``(N, in_channels, *S)`` to one ``(N, widths[i], *ceil(S / stride_i))`` per stage, fine to coarse.

    Raises:
        InputError: as many ``blocks``, ``strides`` or ``kernels`` as ``widths`` are needed.

    Reference: Isensee et al. 2024, nnU-Net revisited, arXiv:2404.09556; code: dynamic-network-architectures,
    ``ResidualEncoder``. Convolutions before a norm have no bias here, which the norm would subtract again.

    >>> encoder = ResidualEncoder(in_channels=1, dims=3, widths=[8, 16], strides=[1, [1, 2, 2]])
    >>> [len(stage) for stage in encoder.stages], encoder.levels[1]
    ([1, 3], Level(channels=16, stride=(1, 2, 2)))
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        widths: Widths | None = None,
        blocks: Sequence[PositiveInt] | None = None,
        strides: Sequence[PerAxis] | None = None,
        kernels: Sequence[PerAxis] | None = None,
        norm: Norm = "instance",
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        widths = widths or [min(32 * 2**i, _WIDEST[dims]) for i in range(5)]
        blocks = blocks or [*_BLOCKS, *[6] * len(widths)][: len(widths)]
        strides = strides or [1] + [2] * (len(widths) - 1)
        kernels = kernels or [3] * len(widths)
        for name, given in (("blocks", blocks), ("strides", strides), ("kernels", kernels)):
            if len(given) != len(widths):
                msg = f"residual_encoder has {len(widths)} widths but {len(given)} {name}; give one for each stage"
                raise InputError(msg)
        self.stem = ConvBlock(in_channels, widths[0], dims, kernels[0], norm_name=norm, activation_name=activation)
        block = partial(ResidualBlock, norm_name=norm, activation_name=activation, pooled=True)
        self.stages = nn.ModuleList()
        along = zip(pairwise([widths[0], *widths]), blocks, strides, kernels, strict=True)
        for (before, width), count, stride, kernel in along:
            rest = [block(width, width, dims, kernel) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(block(before, width, dims, kernel, stride), *rest))
        total = accumulate(
            (per_axis(s, dims) for s in strides), lambda a, b: tuple(x * y for x, y in zip(a, b, strict=True))
        )
        self.levels: Levels = tuple(Level(w, s) for w, s in zip(widths, total, strict=True))
        initialize(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of all stages, fine to coarse."""
        x = self.stem(x)
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return tuple(pyramid)
