"""U-Net decoder: masks at the resolution of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise, repeat
from typing import Literal

import torch
from torch import Tensor, nn

from cphloc.components.loss.dice_ce import DiceCE
from cphloc.config.argument_types import OpenUnitInterval, PerAxis, PositiveInt
from cphloc.errors import InputError
from cphloc.ops.layers import (
    Activation,
    ConvBlock,
    Norm,
    Order,
    conv_transpose_type,
    conv_type,
    fit,
    initialize,
    resize,
)
from cphloc.ops.layers import norm as norm_of
from cphloc.ops.mask_head import MaskHead
from cphloc.structures.levels import Level, Levels


class UNet(MaskHead):
    """Decoder that up-samples, concatenates the skip connection and convolves, once per level from coarse to fine.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: tumour}`` or ``[tumour]``.
        widths: channels of the decoder at each level but the coarsest, fine to coarse; default those of the levels.
        upsample: ``transposed`` (kernel = stride, no checkerboard) or ``interpolate`` (linear, then 1x1 convolution).
        convolutions: convolutions at each level.
        kernels: kernel size at each level but the coarsest, fine to coarse, one number or one per axis; default 3.
        skips: concatenate the maps of the encoder; without them the decoder gets the coarsest level only.
        gates: first multiply them by attention gates, which compare them with the up-sampled coarser map (Attention
            U-Net, Oktay et al. 2018, arXiv:1804.03999).
        deep_supervision: in training, add losses of coarser decoder levels; weights 1, 1/2, 1/4, ... scaled to sum 1.
        order, norm, activation: as in ``conv_encoder``.
        scores: ``softmax``, or ``sigmoid``: a logit for every class without background, each class a region of its own
            that may contain others (nnU-Net's region-based training); a voxel gets the last class whose region
            contains it. Only for predictions with imported weights: the losses take classes that exclude each other.
        prior: approximate initial probability that a voxel belongs to any class, strictly between 0 and 1; the share of
            all classes in a patch suits. A training otherwise begins with lowering the probability of all classes,
            which takes hundreds of steps where objects are small. ``None``: all begin about equal.
        loss: a loss that takes masks; default ``dice_ce``.

    Shapes:
        pyramid to logits ``(N, K + 1, *S)``, background first, of ``sigmoid`` ``(N, K, *S)``. Where the finest level is
        coarser than the image, logits are interpolated. In training with deep supervision a tuple of logits, fine to
        coarse, each at its own level.

    Raises:
        InputError: the number of ``widths`` or ``kernels`` is not that of the levels without the coarsest, or ``gates``
            are asked for without ``skips``.

    Reference: Ronneberger et al. 2015, arXiv:1505.04597; 3-D Cicek et al. 2016, arXiv:1606.06650.

    >>> head = UNet((Level(8, (1, 1)), Level(16, (2, 2))), classes=["lesion"])
    >>> head((torch.zeros(1, 8, 6, 6), torch.zeros(1, 16, 3, 3))).shape
    torch.Size([1, 2, 6, 6])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        widths: Sequence[PositiveInt] | None = None,
        upsample: Literal["transposed", "interpolate"] = "transposed",
        convolutions: PositiveInt = 2,
        kernels: Sequence[PerAxis] | None = None,
        skips: bool = True,
        gates: bool = False,
        deep_supervision: bool = True,
        order: Order = "conv-norm-act",
        norm: Norm = "instance",
        activation: Activation = "leaky_relu",
        scores: Literal["softmax", "sigmoid"] = "softmax",
        prior: OpenUnitInterval | None = None,
        loss: nn.Module | None = None,
    ) -> None:
        super().__init__(levels, classes, loss or DiceCE(), levels[1:-2] if deep_supervision else (), scores)
        self.skips = skips
        block = partial(ConvBlock, order=order, norm_name=norm, activation_name=activation)
        below = len(levels) - 1
        for name, given in (("widths", widths), ("kernels", kernels)):
            if given and len(given) != below:
                msg = f"unet has {below} levels below the coarsest but {len(given)} {name}; give one for each level"
                raise InputError(msg)
        widths = [*(widths or [level.channels for level in levels[:-1]]), levels[-1].channels]
        steps = list(zip(pairwise(levels), pairwise(widths), strict=True))
        self.up = nn.ModuleList(_Up(below, wide, fine, width, upsample) for (fine, below), (width, wide) in steps)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                block(skips * fine.channels + width, width, fine.dims, kernel),
                *(block(width, width, fine.dims, kernel) for _ in range(convolutions - 1)),
            )
            for ((fine, _), (width, _)), kernel in zip(steps, kernels or [3] * below, strict=True)
        )
        if gates and not skips:
            msg = "gates act on the skip connections, which skips: false removes; remove one of the two"
            raise InputError(msg)
        self.gates = nn.ModuleList(
            AttentionGate(fine.channels, width, fine.dims, norm) for (fine, _), (width, _) in steps if gates
        )
        self.score = nn.ModuleList(
            conv_type(levels[0].dims)(width, self.channels, 1) for width in widths[: len(self.weights)]
        )
        initialize(self)
        if prior is not None:
            for layer in self.score:
                self.begin_at(prior, layer)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Logits at full resolution; in training with deep supervision one tensor per supervised level."""
        maps = [pyramid[-1]]
        gates = reversed(self.gates) if self.gates else repeat(None)
        steps = zip(reversed(self.up), reversed(self.blocks), reversed(pyramid[:-1]), strict=True)
        for (up, block, skip), gate in zip(steps, gates, strict=False):
            grown = fit(up(maps[-1]), skip.shape[2:], "edge")
            skip = skip if gate is None else gate(skip, grown)
            maps.append(block(torch.cat([skip, grown], dim=1) if self.skips else grown))
        scored = maps[::-1][: len(self.weights) if self.training else 1]
        full, *coarser = (score(x) for score, x in zip(self.score, scored, strict=False))
        return self.answer(full, coarser)


class AttentionGate(nn.Module):
    """Multiply a skip connection by an attention map in (0, 1), computed from it and the coarser, up-sampled map.

    Args:
        channels: channels of the skip connection.
        gating: channels of the coarser map.
        dims: spatial axes.
        norm_name: normalization after each of the three 1x1 convolutions.

    Reference: Oktay et al. 2018, arXiv:1804.03999; code: MONAI, ``AttentionBlock``.
    """

    def __init__(self, channels: int, gating: int, dims: int, norm_name: Norm) -> None:
        super().__init__()
        inner, conv = max(1, channels // 2), conv_type(dims)
        self.gating = nn.Sequential(conv(gating, inner, 1), norm_of(norm_name, inner, dims))
        self.skip = nn.Sequential(conv(channels, inner, 1), norm_of(norm_name, inner, dims))
        self.attention = nn.Sequential(conv(inner, 1, 1), norm_of(norm_name, 1, dims), nn.Sigmoid())

    def forward(self, skip: Tensor, coarser: Tensor) -> Tensor:
        """``(N, channels, *S)`` and ``(N, gating, *S)`` to ``(N, channels, *S)``."""
        return skip * self.attention(torch.relu(self.gating(coarser) + self.skip(skip)))


class _Up(nn.Module):
    """Up-sample a map from its level to the next finer one, by the per-axis ratio of their strides."""

    def __init__(self, coarse: Level, channels: int, fine: Level, width: int, upsample: str) -> None:
        super().__init__()
        self.ratio = tuple(c // f for c, f in zip(coarse.stride, fine.stride, strict=True))
        self.interpolate = upsample == "interpolate"
        if self.interpolate:
            self.conv = conv_type(fine.dims)(channels, width, 1)
        else:
            self.conv = conv_transpose_type(fine.dims)(channels, width, self.ratio, self.ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Up-sample a map ``(N, C, *S)`` by the ratio of the strides."""
        if not self.interpolate:
            return self.conv(x)
        return resize(self.conv(x), [n * r for n, r in zip(x.shape[2:], self.ratio, strict=True)])
