"""The U-Net decoder of segmentation-models-pytorch: nearest up-sampling and batch normalization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.components.loss.dice_ce import DiceCE
from cphloc.config.argument_types import Widths
from cphloc.errors import InputError
from cphloc.ops.layers import ConvBlock, conv_type, initialize
from cphloc.ops.mask_head import MaskHead
from cphloc.structures.levels import Levels


class SmpUNet(MaskHead):
    """Decoder that repeats voxels to the next finer level, concatenates the skip connection and convolves twice.

    Its last block works at the resolution of the image, without a skip connection. Made for imported weights; it can
    also be trained.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: tumour}`` or ``[tumour]``.
        widths: channels of each block, coarse to fine, one for each level.
        scores: ``softmax``, or ``sigmoid`` for classes that may overlap, as in ``unet``; only for predictions.
        loss: a loss that takes masks; default ``dice_ce``.

    Shapes:
        pyramid to logits ``(N, K + 1, *S)``, background first, of ``sigmoid`` ``(N, K, *S)``.

    Raises:
        InputError: the number of ``widths`` is not that of the levels.

    Reference: Iakubovskii 2019, https://github.com/qubvel-org/segmentation_models.pytorch.

    >>> from cphloc.structures.levels import Level
    >>> head = SmpUNet((Level(8, (2, 2)), Level(16, (4, 4))), classes=["lesion"], widths=[8, 4])
    >>> head((torch.zeros(1, 8, 6, 6), torch.zeros(1, 16, 3, 3))).shape
    torch.Size([1, 2, 12, 12])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        widths: Widths = (256, 128, 64, 32, 16),
        scores: Literal["softmax", "sigmoid"] = "softmax",
        loss: nn.Module | None = None,
    ) -> None:
        super().__init__(levels, classes, loss or DiceCE(), scores=scores)
        if len(widths) != len(levels):
            msg = f"smp_unet has {len(levels)} levels but {len(widths)} widths; give one for each level"
            raise InputError(msg)
        dims = levels[0].dims
        finer = [*(level.stride for level in levels[-2::-1]), (1,) * dims]
        self.ratios = [
            tuple(c // f for c, f in zip(level.stride, fine, strict=True))
            for level, fine in zip(reversed(levels), finer, strict=True)
        ]
        below = [levels[-1].channels, *widths[:-1]]
        skips = [*(level.channels for level in levels[-2::-1]), 0]
        block = partial(ConvBlock, dims=dims, norm_name="batch", activation_name="relu")
        self.blocks = nn.ModuleList(
            nn.Sequential(block(wide + skip, width), block(width, width))
            for wide, skip, width in zip(below, skips, widths, strict=True)
        )
        self.score = conv_type(dims)(widths[-1], self.channels, 3, padding=1)
        initialize(self)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Logits at full resolution."""
        x = pyramid[-1]
        for block, ratio, skip in zip(self.blocks, self.ratios, [*pyramid[-2::-1], None], strict=True):
            x = functional.interpolate(x, [n * r for n, r in zip(x.shape[2:], ratio, strict=True)])
            x = block(x if skip is None else torch.cat([x, skip], dim=1))
        return self.score(x)
