"""Fully convolutional head: scores of the coarsest levels, enlarged by transposed convolutions and added up."""

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
from cphloc.ops.mask_loss import mask_loss
from cphloc.ops.targets import Prediction, Targets
from cphloc.structures.annotation import class_names
from cphloc.structures.levels import Levels


class FCN(nn.Module):
    """FCN-32s, -16s and -8s, and on a backbone of stride 1 the network that never down-samples.

    Each used level is scored by a 1x1 convolution. From the coarsest on, scores are enlarged by a transposed
    convolution that starts as linear interpolation, and added to the next finer level's; at last they are enlarged to
    the image. Along an axis where two levels have the same stride nothing is enlarged.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: tumour}`` or ``[tumour]``.
        fused: how many of the coarsest levels to use: on strides 8, 16, 32 one is FCN-32s, two FCN-16s, three FCN-8s;
            default all, at most three.
        loss: a loss that takes masks; default ``cross_entropy``.

    Shapes:
        pyramid to logits ``(N, K + 1, *S)``, background first.

    Raises:
        InputError: more levels to fuse than there are.

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
        loss: nn.Module | None = None,
    ) -> None:
        super().__init__()
        fused = fused or min(3, len(levels))
        if fused > len(levels):
            msg = f"fcn cannot fuse {fused} levels of a pyramid of {len(levels)}; lower fused"
            raise InputError(msg)
        self.classes = class_names(classes)
        self.criterion = loss or CrossEntropy()
        used = levels[len(levels) - fused :]
        channels, dims = len(self.classes) + 1, used[0].dims
        self.score = nn.ModuleList(conv_type(dims)(level.channels, channels, 1) for level in used)
        strides = ((1,) * dims, *(level.stride for level in used))
        self.enlarge = nn.ModuleList(
            _linear_enlargement(channels, tuple(c // f for f, c in zip(fine, coarse, strict=True)))
            for fine, coarse in pairwise(strides)
        )

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Logits at full resolution."""
        scores = [score(x) for score, x in zip(self.score, pyramid[-len(self.score) :], strict=True)]
        total = scores.pop()
        for finer, enlarge in zip(reversed(scores), reversed(self.enlarge[1:]), strict=True):
            total = finer + fit(enlarge(total), finer.shape[2:])
        return self.enlarge[0](total)

    def loss(self, outputs: Tensor, targets: Targets) -> dict[str, Tensor]:
        """``{"mask": scalar}`` over the cases that have a mask."""
        return {"mask": mask_loss(self.criterion, outputs, targets)}

    def decode(self, outputs: Tensor) -> Prediction:
        """Class probabilities ``(N, K + 1, *S)``."""
        return Prediction(mask_probabilities=outputs.float().softmax(dim=1))


def _linear_enlargement(channels: int, factor: tuple[int, ...]) -> nn.Module:
    """Transposed convolution of each channel by itself that starts as linear interpolation by ``factor`` per axis."""
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
