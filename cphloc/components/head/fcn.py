"""Fully convolutional network (FCN): scores of the coarsest levels, up-sampled by transposed convolutions and added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from cphloc.components.loss.cross_entropy import CrossEntropy
from cphloc.config.argument_types import PositiveInt
from cphloc.errors import InputError
from cphloc.ops.layers import conv_transpose_type, conv_type, fit
from cphloc.ops.mask_head import MaskHead
from cphloc.structures.levels import Levels


class FCN(MaskHead):
    """FCN-32s, FCN-16s and FCN-8s; on a backbone of stride 1, a network without down-sampling.

    A 1x1 convolution computes class scores of each used level. Starting at the coarsest, scores are up-sampled by a
    transposed convolution, initialized as linear interpolation, and added to those of the next finer level; the sum is
    up-sampled to the image. Axes along which two levels have the same stride are not up-sampled.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: tumour}`` or ``[tumour]``.
        fused: how many of the coarsest levels to use: on strides 8, 16, 32 one is FCN-32s, two FCN-16s, three FCN-8s;
            default all, at most three.
        deep_supervision: in training, add losses of the scores of the coarser levels before they are up-sampled;
            weights 1, 1/2, 1/4, ... scaled to sum 1.
        loss: a loss that takes masks; default ``cross_entropy``.

    Shapes:
        pyramid to logits ``(N, K + 1, *S)``, background first. In training with deep supervision a tuple of logits,
        fine to coarse, each at its own level.

    Raises:
        InputError: ``fused`` exceeds the number of levels.

    Reference: Long et al. 2015, arXiv:1411.4038.

    >>> from cphloc.structures.levels import Level
    >>> head = FCN((Level(8, (8, 8)), Level(16, (16, 16))), classes=["lesion"])
    >>> head((torch.zeros(1, 8, 4, 4), torch.zeros(1, 16, 2, 2))).shape
    torch.Size([1, 2, 32, 32])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        fused: PositiveInt | None = None,
        deep_supervision: bool = False,
        loss: nn.Module | None = None,
    ) -> None:
        fused = fused or min(3, len(levels))
        if fused > len(levels):
            msg = f"fcn cannot fuse {fused} levels of a pyramid of {len(levels)}; lower fused"
            raise InputError(msg)
        used = levels[len(levels) - fused :]
        coarser = tuple(level for level in used if prod(level.stride) > 1)
        super().__init__(levels, classes, loss or CrossEntropy(), coarser[:-1] if deep_supervision else ())
        self.coarser = len(coarser)
        channels, dims = self.channels, used[0].dims
        self.score = nn.ModuleList(conv_type(dims)(level.channels, channels, 1) for level in used)
        strides = ((1,) * dims, *(level.stride for level in used))
        self.enlarge = nn.ModuleList(
            _linear_enlargement(channels, tuple(c // f for f, c in zip(fine, coarse, strict=True)))
            for fine, coarse in pairwise(strides)
        )

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Logits at full resolution; in training with deep supervision one tensor per supervised level."""
        scores = [score(x) for score, x in zip(self.score, pyramid[-len(self.score) :], strict=True)]
        total = scores.pop()
        totals = [total]
        for finer, enlarge in zip(reversed(scores), reversed(self.enlarge[1:]), strict=True):
            total = finer + fit(enlarge(total), finer.shape[2:], "edge")
            totals.append(total)
        full = self.enlarge[0](total)
        coarser = totals[: self.coarser][::-1][: len(self.supervised)]
        return (full, *coarser) if self.training and coarser else full


def _linear_enlargement(channels: int, factor: tuple[int, ...]) -> nn.Module:
    """Build a depthwise transposed convolution, initialized as linear interpolation by ``factor`` per axis."""
    if prod(factor) == 1:
        return nn.Identity()
    kernel = tuple(2 * f - f % 2 for f in factor)
    padding = tuple((k - f) // 2 for k, f in zip(kernel, factor, strict=True))
    layer = conv_transpose_type(len(factor))(channels, channels, kernel, factor, padding, groups=channels, bias=False)
    weight = torch.ones(())
    for k, f in zip(kernel, factor, strict=True):
        weight = weight[..., None] * (1 - (torch.arange(k) - (k - 1) / 2).abs() / f)
    with torch.no_grad():
        layer.weight.copy_(weight.expand_as(layer.weight))
    return layer
