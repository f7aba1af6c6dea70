"""Faster R-CNN: a region proposal network and a region classifier on shared features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from cphloc.components.head.fast_rcnn import FastRCNN
from cphloc.components.loss.bce import BCE
from cphloc.components.loss.smooth_l1 import SmoothL1
from cphloc.components.suppression.nms import NMS
from cphloc.config.argument_types import NonNegativeFloat, PositiveFloat, PositiveInt, UnitInterval
from cphloc.ops.anchor_head import AnchorHead, AnchorOutput
from cphloc.ops.anchors import retina_sizes
from cphloc.ops.assign import assign_max_iou, reach_every_box
from cphloc.ops.boxes import clip, overlap_matrix
from cphloc.ops.detections import Suppression, joined
from cphloc.ops.region_head import RegionOutput
from cphloc.ops.sampling import balanced
from cphloc.ops.targets import Prediction, Targets
from cphloc.structures.levels import Levels


class FasterRCNNOutput(NamedTuple):
    """Outputs of the region proposal network, and the pyramid with the proposals for the second stage."""

    anchors: AnchorOutput
    regions: RegionOutput


class FasterRCNN(nn.Module):
    """Region proposal network (RPN), followed by `FastRCNN` on its proposals; both are trained together.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        anchors: anchor sizes in voxels, one list per level of equally many sizes; default RetinaNet's nine.
        proposals: largest number of proposals per image that are passed to the second stage.
        proposal_iou: proposals whose IoU with a higher-scored one exceeds this value are dropped.
        channels: channels of the convolutions of both stages.
        pool: size of the pooled features of a region, in bins per axis.
        width: features of the fully connected layers of the second stage.
        loss: classification loss of the RPN, object or background; default ``bce``.
        box_loss: box regression loss of both stages; default ``smooth_l1``.
        box_weight: weight of both box losses.
        samples: regions sampled per image for the losses of the second stage.
        positive_fraction: largest fraction of positive regions among them.
        suppression: resolves duplicate boxes of one object.

    Reference: Ren et al. 2015, arXiv:1506.01497.

    >>> from cphloc.structures.levels import Level
    >>> head = FasterRCNN((Level(8, (4, 4)),), classes=["cell"], channels=8, width=8)
    >>> head((torch.zeros(1, 8, 8, 8),)).anchors.scores[0].shape
    torch.Size([1, 9, 8, 8])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        anchors: Sequence[Sequence[Sequence[PositiveFloat]]] | None = None,
        proposals: PositiveInt = 1000,
        proposal_iou: UnitInterval = 0.7,
        channels: PositiveInt = 256,
        pool: PositiveInt = 7,
        width: PositiveInt = 1024,
        loss: nn.Module | None = None,
        box_loss: nn.Module | None = None,
        box_weight: NonNegativeFloat = 1.0,
        samples: PositiveInt = 512,
        positive_fraction: UnitInterval = 0.25,
        suppression: Suppression = NMS(pre_nms_topk=None),
    ) -> None:
        super().__init__()
        box_loss = box_loss or SmoothL1()
        self.proposer = RegionProposals(
            levels, anchors, channels, loss or BCE(), box_loss, box_weight, proposals, proposal_iou
        )
        self.detector = FastRCNN(
            levels,
            classes,
            pool=pool,
            width=width,
            channels=channels,
            box_loss=box_loss,
            box_weight=box_weight,
            samples=samples,
            positive_fraction=positive_fraction,
            suppression=suppression,
        )
        self.classes = self.detector.classes

    def forward(self, pyramid: tuple[Tensor, ...]) -> FasterRCNNOutput:
        """Propose regions in the pyramid."""
        anchors = self.proposer(pyramid)
        return FasterRCNNOutput(anchors, self.detector(pyramid, self.proposer.propose(anchors)))

    def loss(self, outputs: FasterRCNNOutput, targets: Targets) -> dict[str, Tensor]:
        """Return ``{"proposal_score", "proposal_box", "class", "box"}`` over the images with box annotations."""
        first = {f"proposal_{name}": value for name, value in self.proposer.loss(outputs.anchors, targets).items()}
        return {**first, **self.detector.loss(outputs.regions, targets)}

    def second_stage(self, outputs: FasterRCNNOutput) -> None:
        """Run the layers that `decode` runs, to count their operations; works on the meta device."""
        self.detector.second_stage(outputs.regions)

    def decode(self, outputs: FasterRCNNOutput) -> Prediction:
        """Return the detections of every image; boxes are not clipped to the image."""
        return self.detector.decode(outputs.regions)


class RegionProposals(AnchorHead):
    """Region proposal network: a class-agnostic anchor-based detector.

    Anchors with an IoU of at least 0.7, and the best anchor of every box, are positive; those below 0.3 are negative.
    The loss uses 256 anchors per image, drawn at random, at most half of them positive.

    Args:
        levels: pyramid levels.
        anchors: anchor sizes in voxels, one list per level; ``None``: RetinaNet's nine.
        channels: channels of the towers.
        loss: classification loss.
        box_loss: box regression loss.
        box_weight: weight of the box loss.
        proposals: largest number of proposals per image.
        iou: proposals whose IoU with a higher-scored one exceeds this value are dropped.
    """

    class_agnostic: ClassVar[bool] = True

    def __init__(
        self,
        levels: Levels,
        anchors: Sequence[Sequence[Sequence[float]]] | None,
        channels: int,
        loss: nn.Module,
        box_loss: nn.Module,
        box_weight: float,
        proposals: int,
        iou: float,
    ) -> None:
        sizes = anchors or [retina_sizes(level) for level in levels]
        suppression = NMS(iou, score=0.0, pre_nms_topk=proposals, limit=proposals)
        super().__init__(levels, ["object"], sizes, channels, 1, loss, box_loss, box_weight, suppression)

    def assign(self, anchors: Sequence[Tensor], boxes: Tensor, cells: Sequence[Sequence[int]]) -> Tensor:
        """Assign anchors by best overlap."""
        every = torch.cat(list(anchors))
        return reach_every_box(assign_max_iou(overlap_matrix(every, boxes), bg_iou=0.3, fg_iou=0.7), every, boxes)

    def counted(self, assigned: Tensor) -> tuple[Tensor, int]:
        """Draw a balanced random sample of the anchors of each image."""
        chosen = torch.zeros_like(assigned, dtype=torch.bool)
        for row, anchors in zip(chosen, assigned, strict=True):
            row[balanced(anchors + 1, count=256, positive_fraction=0.5)] = True
        return chosen, max(1, int(chosen.sum()))

    @torch.no_grad()
    def propose(self, outputs: AnchorOutput) -> list[Tensor]:
        """Return the highest-scored proposals ``(n, 2 D)`` of each image, clipped to it."""
        extent = tuple(n * s for n, s in zip(outputs.scores[0].shape[2:], self.levels[0].stride, strict=True))
        if outputs.scores[0].is_meta:  # no values, so assume the largest number
            return [outputs.scores[0].new_empty(self.suppression.limit, 2 * len(extent)) for _ in outputs.scores[0]]
        regions = []
        for image in range(len(outputs.scores[0])):
            boxes, scores, classes = joined(self.candidates(outputs, image))
            regions.append(self.suppression(clip(boxes, extent), scores, classes).boxes)
        return regions
