"""RetinaNet: anchor-based detection on a pyramid with focal loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cphloc.components.loss.focal import Focal
from cphloc.components.loss.smooth_l1 import SmoothL1
from cphloc.components.suppression.nms import NMS
from cphloc.config.argument_types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, UnitInterval
from cphloc.ops.anchor_head import AnchorHead
from cphloc.ops.anchors import retina_sizes
from cphloc.ops.assign import assign_max_iou, reach_every_box
from cphloc.ops.assign_atss import assign_atss
from cphloc.ops.boxes import overlap_matrix
from cphloc.ops.dense_prediction import tower_width
from cphloc.ops.detections import Suppression
from cphloc.ops.targets import Targets
from cphloc.structures.levels import Levels


class Retina(AnchorHead):
    """Predict class scores and box deltas of anchors with two convolutional towers shared by all levels.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        anchors: anchor sizes in voxels, one list per level (fine to coarse) of equally many sizes, each with one number
            per axis; default RetinaNet's nine, of about 4 cells.
        assignment: ``atss`` (IoU threshold computed for each box) or ``max_iou`` (fixed thresholds).
        candidates: with ``atss``, cells per box and level whose anchors are candidates, by distance of the centre.
        bg_iou: with ``max_iou``, anchors whose best IoU is below this value are background.
        fg_iou: with ``max_iou``, anchors whose best IoU is at least this value are positive; those between are ignored.
        channels: channels of the towers; default that of the widest level, at most 256.
        convolutions: convolutions per tower.
        loss: classification loss; default ``focal``.
        box_loss: box regression loss; default ``smooth_l1``.
        box_weight: weight of the box loss.
        suppression: resolves duplicate boxes of one object.

    Shapes:
        pyramid to logits ``(N, A * K, *S_l)`` and deltas ``(N, A * 2 D, *S_l)`` per level.

    Reference: Lin et al. 2017, arXiv:1708.02002; ATSS Zhang et al. 2020, arXiv:1912.02424; with a ``unet`` beside it on
    one neck, Retina U-Net, Jaeger et al. 2020, arXiv:1811.08661.

    >>> from cphloc.structures.levels import Level
    >>> head = Retina((Level(8, (4, 4)),), classes=["cell"], channels=8, convolutions=1)
    >>> [x.shape for x in head((torch.zeros(1, 8, 4, 4),)).scores]
    [torch.Size([1, 9, 4, 4])]
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        anchors: Sequence[Sequence[Sequence[PositiveFloat]]] | None = None,
        assignment: Literal["atss", "max_iou"] = "atss",
        candidates: PositiveInt = 9,
        bg_iou: UnitInterval = 0.4,
        fg_iou: UnitInterval = 0.5,
        channels: PositiveInt | None = None,
        convolutions: NonNegativeInt = 4,
        loss: nn.Module | None = None,
        box_loss: nn.Module | None = None,
        box_weight: NonNegativeFloat = 1.0,
        suppression: Suppression = NMS(),
    ) -> None:
        super().__init__(
            levels,
            classes,
            anchors or [retina_sizes(level) for level in levels],
            channels or tower_width(levels),
            convolutions,
            loss or Focal(),
            box_loss or SmoothL1(),
            box_weight,
            suppression,
        )
        self.assignment = assignment
        self.nearest = candidates
        self.bg_iou, self.fg_iou = bg_iou, fg_iou

    def assign(self, anchors: Sequence[Tensor], boxes: Tensor, cells: Sequence[Sequence[int]]) -> Tensor:
        """Assign anchors by ATSS or by best overlap."""
        if self.assignment == "atss":
            return assign_atss(anchors, boxes, self.nearest * len(self.sizes[0]))
        every = torch.cat(list(anchors))
        assigned = assign_max_iou(overlap_matrix(every, boxes), self.bg_iou, self.fg_iou)
        return reach_every_box(assigned, every, boxes)

    def loss_cases(self, targets: Targets) -> dict[str, Tensor]:
        """Number of matched anchors, of which both losses are means."""
        cells = [level.size(targets.size) for level in self.levels]
        anchors = self.anchors_of(cells, targets.boxes_known.device)
        number = torch.zeros((), device=targets.boxes_known.device)
        for row in targets.has_boxes.nonzero()[:, 0].tolist():
            number += (self.assign(anchors, targets.boxes[row], cells) >= 0).sum()
        return {"score": number, "box": number}
