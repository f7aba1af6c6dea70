"""U-Net++: a U-Net decoder whose skip connections pass through further, densely connected nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from cphloc.components.loss.dice_ce import DiceCE
from cphloc.config.argument_types import PositiveInt
from cphloc.errors import InputError
from cphloc.ops.layers import Activation, ConvBlock, Norm, Upsample, conv_type, initialize, upsample_to
from cphloc.ops.mask_head import MaskHead
from cphloc.structures.levels import Levels


class UNetPlusPlus(MaskHead):
    """Nested decoder: node j of a level convolves its earlier nodes and the up-sampled node j - 1 of the coarser level.

    Node 0 is the encoder's map; every level has one node less than the next finer one, and the last node of the finest
    level is scored.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built; at least two.
        classes: foreground classes, ``{1: tumour}`` or ``[tumour]``.
        widths: channels of the last node of each level but the coarsest, fine to coarse; default those of the levels.
            Other nodes have the channels of their level.
        upsample: interpolation of coarser maps, ``nearest`` or ``linear``.
        deep_supervision: in training, add losses of the other nodes of the finest level, each the output of a smaller
            U-Net; weights 1, 1/2, 1/4, ... scaled to sum 1, the last node first.
        norm, activation: after each of the two convolutions of a node.
        loss: a loss that takes masks; default ``dice_ce``.

    Shapes:
        pyramid to logits ``(N, K + 1, *S)``, background first, interpolated from the finest level. In training with
        deep supervision a tuple of logits; those of the other nodes are on the grid of the finest level.

    Raises:
        InputError: fewer than two levels, or the number of ``widths`` is not that of the levels without the coarsest.

    Reference: Zhou et al. 2018, arXiv:1807.10165; nodes as in segmentation-models-pytorch.

    >>> from cphloc.structures.levels import Level
    >>> head = UNetPlusPlus((Level(8, (1, 1)), Level(16, (2, 2))), classes=["lesion"])
    >>> head((torch.zeros(1, 8, 6, 6), torch.zeros(1, 16, 3, 3))).shape
    torch.Size([1, 2, 6, 6])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        widths: Sequence[PositiveInt] | None = None,
        upsample: Upsample = "nearest",
        deep_supervision: bool = True,
        norm: Norm = "instance",
        activation: Activation = "leaky_relu",
        loss: nn.Module | None = None,
    ) -> None:
        below = len(levels) - 1
        super().__init__(levels, classes, loss or DiceCE(), levels[:1] * (below - 1) if deep_supervision else ())
        widths = widths or [level.channels for level in levels[:-1]]
        if below < 1 or len(widths) != below:
            msg = f"unetplusplus has {below} levels below the coarsest but {len(widths)} widths; give one for each"
            raise InputError(msg)
        self.upsample: Upsample = upsample
        block = partial(ConvBlock, dims=levels[0].dims, norm_name=norm, activation_name=activation)
        channels = [[level.channels] for level in levels]
        self.nodes = nn.ModuleDict()
        for j in range(1, len(levels)):
            for i in range(len(levels) - j):
                wide, width = channels[i + 1][j - 1] + sum(channels[i]), levels[i].channels
                width = widths[i] if i + j == below else width
                self.nodes[f"{i}_{j}"] = nn.Sequential(block(wide, width), block(width, width))
                channels[i].append(width)
        scored = channels[0][: -len(self.weights) - 1 : -1]
        self.score = nn.ModuleList(conv_type(levels[0].dims)(width, self.channels, 1) for width in scored)
        initialize(self)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Logits at full resolution; in training with deep supervision one tensor per supervised node."""
        rows = [[x] for x in pyramid]
        for j in range(1, len(rows)):
            for i in range(len(rows) - j):
                grown = upsample_to(rows[i + 1][j - 1], rows[i][0].shape[2:], self.upsample)
                rows[i].append(self.nodes[f"{i}_{j}"](torch.cat([grown, *reversed(rows[i])], dim=1)))
        last = rows[0][: -len(self.score) - 1 : -1] if self.training else rows[0][-1:]
        full, *others = (score(x) for score, x in zip(self.score, last, strict=False))
        return self.answer(full, others)
