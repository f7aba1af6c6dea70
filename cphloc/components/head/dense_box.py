"""Dense box prediction: class probabilities, centre offset and size at every cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cphloc.components.loss.focal import Focal
from cphloc.components.loss.smooth_l1 import SmoothL1
from cphloc.components.suppression.nms import NMS
from cphloc.config.argument_types import NonNegativeFloat, NonNegativeInt, OpenUnitInterval, PositiveFloat, PositiveInt
from cphloc.ops.anchor_head import AnchorHead, AnchorOutput
from cphloc.ops.assign import NEGATIVE, assign_centre_cell, level_of, reach_every_box
from cphloc.ops.detections import Suppression
from cphloc.ops.targets import Targets
from cphloc.structures.levels import Levels


class DenseBox(AnchorHead):
    """Predict at every cell the probability of each class, the offset of the box centre and the log size, in cells.

    For cell i, offset t and log size l, the centre is ``(i + 1/2 + t) * stride`` and the size ``stride * exp(l)`` per
    axis. Predictions are thus relative to the cell, and translate with the object. A box is predicted by the cell that
    contains its centre; of several boxes with their centre in one cell the smallest is, and each other one is assigned
    to the closest free cell.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        cells_across: of several levels, a box belongs to the coarsest on which it spans at least this many cells.
        channels: channels of the towers.
        convolutions: convolutions per tower.
        loss: classification loss; default ``focal``.
        box_loss: box regression loss; default ``smooth_l1``.
        box_weight: weight of the box loss.
        prior: initial probability of every class at every cell, strictly between 0 and 1; 0.5 means bias 0.
        suppression: resolves duplicate boxes of one object.

    Attributes:
        collisions: number of boxes in the last call of `loss` whose centre cell was assigned to a smaller box.

    Shapes:
        pyramid to logits ``(N, K, *S_l)`` and deltas ``(N, 2 D, *S_l)`` per level: 819,200 predictions for
        512 x 512 x 200 voxels at stride 4, 936,704 with the coarser levels.

    Reference: Yala, CPH 100A, Localization and Segmentation; Huang et al. 2015, DenseBox, arXiv:1509.04874.

    >>> from cphloc.structures.levels import Level
    >>> head = DenseBox((Level(8, (4, 4)),), classes=["nodule"], channels=8)
    >>> head((torch.zeros(1, 8, 4, 4),)).deltas[0].shape
    torch.Size([1, 4, 4, 4])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        cells_across: PositiveFloat = 4.0,
        channels: PositiveInt = 128,
        convolutions: NonNegativeInt = 2,
        loss: nn.Module | None = None,
        box_loss: nn.Module | None = None,
        box_weight: NonNegativeFloat = 1.0,
        prior: OpenUnitInterval = 0.01,
        suppression: Suppression = NMS(),
    ) -> None:
        super().__init__(
            levels,
            classes,
            [[level.stride] for level in levels],
            channels,
            convolutions,
            loss or Focal(),
            box_loss or SmoothL1(),
            box_weight,
            suppression,
            score_bias=math.log(prior / (1 - prior)),
        )
        self.cells_across = cells_across
        self.collisions = 0

    def loss(self, outputs: AnchorOutput, targets: Targets) -> dict[str, Tensor]:
        """Return ``{"score": scalar, "box": scalar}`` over the images with box annotations."""
        self.collisions = 0
        return super().loss(outputs, targets)

    def assign(self, anchors: Sequence[Tensor], boxes: Tensor, cells: Sequence[Sequence[int]]) -> Tensor:
        """Assign to each box the cell of its centre, on the level for its size."""
        at = level_of(boxes, self.levels, self.cells_across)
        assigned = []
        for number, (level, extent) in enumerate(zip(self.levels, cells, strict=True)):
            here = (at == number).nonzero()[:, 0]
            local, lost = assign_centre_cell(boxes[here], extent, level.stride)
            self.collisions += lost
            assigned.append(torch.where(local >= 0, here[local] if len(here) else local, NEGATIVE))
        return reach_every_box(torch.cat(assigned), torch.cat(list(anchors)), boxes)
