"""Convolutional encoder: stages of plain or residual blocks, each at its own per-axis stride."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Literal

from torch import Tensor, nn

from cphloc.config.argument_types import PerAxis, PositiveInt, Widths
from cphloc.errors import InputError
from cphloc.ops.layers import Activation, ConvBlock, Norm, Order, ResidualBlock, initialize, per_axis
from cphloc.structures.levels import Level, Levels


class ConvEncoder(nn.Module):
    """Encoder of a U-Net, or on its own a small CNN; the same code in 1-D, 2-D and 3-D.

    With ``strides: [1]`` for every stage it is the fully convolutional network without any down-sampling.

    Args:
        in_channels: image channels (set when the model is built).
        dims: spatial axes (set when the model is built).
        widths: channels of each stage; their number is the number of stages.
        strides: stride of each stage relative to the one before, one number or one per axis in array order;
            default 1 for the first stage and 2 for the others.
        kernels: kernel size of each stage, one number or one per axis; default 3.
        convolutions: convolutions of each stage (plain), or blocks of two convolutions (residual).
        block: ``plain`` or ``residual``.
        order: ``conv-norm-act``, or the lecture's ``conv-act-norm``.
        norm: normalization after (or in the lecture's order behind the activation of) each convolution.
        activation: activation function.

    Shapes:
        ``(N, in_channels, *S)`` to one ``(N, widths[i], *ceil(S / stride_i))`` per stage, fine to coarse.

    Raises:
        InputError: as many ``strides`` or ``kernels`` as ``widths`` are needed.

    Reference: Isensee et al. 2021, nnU-Net, doi 10.1038/s41592-020-01008-z; residual blocks He et al. 2016,
    arXiv:1512.03385.

    >>> encoder = ConvEncoder(in_channels=1, dims=3, widths=[8, 16], strides=[1, [1, 2, 2]])
    >>> [level.stride for level in encoder.levels]
    [(1, 1, 1), (1, 2, 2)]
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        widths: Widths = (32, 64, 128, 256, 320),
        strides: Sequence[PerAxis] | None = None,
        kernels: Sequence[PerAxis] | None = None,
        convolutions: PositiveInt = 2,
        block: Literal["plain", "residual"] = "plain",
        order: Order = "conv-norm-act",
        norm: Norm = "instance",
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        strides = strides or [1] + [2] * (len(widths) - 1)
        kernels = kernels or [3] * len(widths)
        for name, given in (("strides", strides), ("kernels", kernels)):
            if len(given) != len(widths):
                msg = f"conv_encoder has {len(widths)} widths but {len(given)} {name}; give one for each stage"
                raise InputError(msg)
        kind = ConvBlock if block == "plain" else ResidualBlock
        made = partial(kind, order=order, norm_name=norm, activation_name=activation)
        self.stages = nn.ModuleList()
        for (before, width), stride, kernel in zip(pairwise([in_channels, *widths]), strides, kernels, strict=True):
            first = made(before, width, dims, kernel, stride)
            rest = [made(width, width, dims, kernel, 1) for _ in range(convolutions - 1)]
            self.stages.append(nn.Sequential(first, *rest))
        total = accumulate(
            (per_axis(s, dims) for s in strides), lambda a, b: tuple(x * y for x, y in zip(a, b, strict=True))
        )
        self.levels: Levels = tuple(Level(w, s) for w, s in zip(widths, total, strict=True))
        initialize(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of all stages, fine to coarse."""
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return tuple(pyramid)
