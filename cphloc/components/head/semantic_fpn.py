"""Semantic FPN: class scores from the sum of all pyramid levels on the finest grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from cphloc.components.loss.dice_ce import DiceCE
from cphloc.config.argument_types import PositiveInt
from cphloc.ops.layers import ConvBlock, Norm, conv_type, initialize, resize
from cphloc.ops.mask_head import MaskHead
from cphloc.structures.levels import Levels


class SemanticFPN(MaskHead):
    """Predict masks from the sum of all levels (Z = Z_coarse + Z_middle + Z_fine).

    Every level is up-sampled to the finest one, with a convolution per step, and a 1x1 convolution of the sum gives
    class scores.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: tumour}`` or ``[tumour]``.
        channels: channels of the summed features.
        norm: normalization after each convolution.
        deep_supervision: in training, add losses of the coarser levels, scored before up-sampling by the same
            convolution; weights 1, 1/2, 1/4, ... scaled to sum 1.
        loss: a loss that takes masks; default ``dice_ce``.

    Shapes:
        pyramid to logits ``(N, K + 1, *S)``, background first, interpolated from the finest level. In training with
        deep supervision a tuple of logits, fine to coarse, each at its own level.

    Reference: Kirillov et al. 2019, arXiv:1901.02446.

    >>> import torch
    >>> from cphloc.structures.levels import Level
    >>> head = SemanticFPN((Level(8, (2, 2)), Level(16, (4, 4))), classes=["lesion"], channels=8)
    >>> head((torch.zeros(1, 8, 4, 4), torch.zeros(1, 16, 2, 2))).shape
    torch.Size([1, 2, 8, 8])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        channels: PositiveInt = 128,
        norm: Norm = "group",
        deep_supervision: bool = False,
        loss: nn.Module | None = None,
    ) -> None:
        super().__init__(levels, classes, loss or DiceCE(), levels[1:-1] if deep_supervision else ())
        dims = levels[0].dims
        block = partial(ConvBlock, norm_name=norm, activation_name="relu")
        self.paths = nn.ModuleList(
            nn.ModuleList(
                block(level.channels if step == 0 else channels, channels, dims) for step in range(max(1, index))
            )
            for index, level in enumerate(levels)
        )
        self.score = conv_type(dims)(channels, self.channels, 1)
        initialize(self)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Logits at full resolution; in training with deep supervision one tensor per supervised level."""
        coarser: list[Tensor] = []
        sizes = [tuple(x.shape[2:]) for x in pyramid]
        paths = [list(path.children()) for path in self.paths]
        total = paths[0][0](pyramid[0])
        for index in range(1, len(pyramid)):
            x = pyramid[index]
            for step, (block, size) in enumerate(zip(paths[index], reversed(sizes[:index]), strict=True)):
                x = block(x)
                if step == 0 and self.training and index < len(self.weights):
                    coarser.append(self.score(x))
                x = resize(x, size)
            total = total + x
        return self.answer(self.score(total), coarser)
