"""Siamese encoder: the current and the prior scan pass through the same network, and their maps are joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.config.argument_types import PerAxis, PositiveInt, Widths
from cphloc.errors import InputError
from cphloc.ops.layers import Activation, Norm
from cphloc.structures.levels import Level, Levels


class Siamese(nn.Module):
    """Encode two registered scans with shared weights, for change between them, such as a new lesion.

    Args:
        in_channels: image channels (set when the model is built); first those of the current scan, then as many of the
            prior one.
        dims: spatial axes (set when the model is built).
        join: maps of each level: ``difference``, those of the current scan and current minus prior, or ``concatenate``,
            those of both scans.
        widths, strides, kernels, convolutions, block, norm, activation: of the shared encoder, as in ``conv_encoder``.

    Shapes:
        ``(N, in_channels, *S)`` to one ``(N, 2 * widths[i], *ceil(S / stride_i))`` per stage, fine to coarse.

    Raises:
        InputError: an odd number of channels, or as many ``strides`` or ``kernels`` as ``widths`` are needed.

    Reference: Daudt et al. 2018, arXiv:1810.08462.

    >>> Siamese(in_channels=2, dims=3, widths=[8, 16]).levels[1]
    Level(channels=32, stride=(2, 2, 2))
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        join: Literal["difference", "concatenate"] = "difference",
        widths: Widths = (32, 64, 128, 256, 320),
        strides: Sequence[PerAxis] | None = None,
        kernels: Sequence[PerAxis] | None = None,
        convolutions: PositiveInt = 2,
        block: Literal["plain", "residual"] = "plain",
        norm: Norm = "instance",
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        if in_channels % 2:
            msg = f"siamese takes a current and a prior scan, an even number of channels, but there are {in_channels}"
            raise InputError(msg)
        self.join = join
        self.encoder = ConvEncoder(
            in_channels // 2,
            dims,
            widths,
            strides,
            kernels,
            convolutions,
            block,
            norm=norm,
            activation=activation,
        )
        self.levels: Levels = tuple(Level(2 * level.channels, level.stride) for level in self.encoder.levels)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Joined feature maps of all stages, fine to coarse."""
        pairs = zip(*(self.encoder(scan) for scan in x.chunk(2, dim=1)), strict=True)
        return tuple(torch.cat([now, now - prior if self.join == "difference" else prior], 1) for now, prior in pairs)
