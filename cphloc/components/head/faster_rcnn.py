"""Faster R-CNN: a network that proposes regions, and one that classifies them, on the same features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
    """Outputs of the proposal network, and what it hands to the second stage."""

    anchors: AnchorOutput
    regions: RegionOutput


class FasterRCNN(nn.Module):
    """Region proposal network and `FastRCNN` on one pyramid; four losses.

    Args:
        levels: what the backbone or neck gives (wired).
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        anchors: anchor sizes in voxels, one list per level of equally many sizes; default RetinaNet's nine.
        proposals: regions per image that reach the second stage.
        proposal_iou: proposals whose IoU with a better one exceeds this value are dropped.
        channels: width of both stages' convolutions.
        pool: bins per axis that a region is read on.
        width: of the second stage's fully connected layers.
        loss: takes scores, for objects against background; default ``bce``.
        box_loss: takes boxes, in both stages; default ``smooth_l1``.
        box_weight: weight of both box losses.
        samples: regions per image that the second stage learns from.
        positive_fraction: at most this share of them shows an object.
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
        """Pyramid to `FasterRCNNOutput`."""
        anchors = self.proposer(pyramid)
        return FasterRCNNOutput(anchors, self.detector(pyramid, self.proposer.propose(anchors)))

    def loss(self, outputs: FasterRCNNOutput, targets: Targets) -> dict[str, Tensor]:
        """``{"proposal_score", "proposal_box", "class", "box"}`` over the cases whose boxes are known."""
        first = {f"proposal_{name}": value for name, value in self.proposer.loss(outputs.anchors, targets).items()}
        return {**first, **self.detector.loss(outputs.regions, targets)}

    def second_stage(self, outputs: FasterRCNNOutput) -> None:
        """Do the work that `decode` does in the network, for those who count it."""
        self.detector.second_stage(outputs.regions)

    def decode(self, outputs: FasterRCNNOutput) -> Prediction:
        """Detections of every image; boxes may reach beyond it."""
        return self.detector.decode(outputs.regions)


class RegionProposals(AnchorHead):
    """The proposal network: which anchors show any object.

    Anchors of IoU 0.7 and more, or the best of a box, are positive, below 0.3 negative; 256 a image, at most half of
    them positive, are drawn for the loss.
    """

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
        """By best overlap."""
        every = torch.cat(list(anchors))
        return reach_every_box(assign_max_iou(overlap_matrix(every, boxes), bg_iou=0.3, fg_iou=0.7), every, boxes)

    def counted(self, assigned: Tensor) -> tuple[Tensor, int]:
        """A balanced sample of each image."""
        chosen = torch.zeros_like(assigned, dtype=torch.bool)
        for row, anchors in zip(chosen, assigned, strict=True):
            row[balanced(anchors + 1, count=256, positive_fraction=0.5)] = True
        return chosen, max(1, int(chosen.sum()))

    def numbers(self, box_classes: Tensor) -> Tensor:
        """All classes are one."""
        return torch.zeros_like(box_classes)

    @torch.no_grad()
    def propose(self, outputs: AnchorOutput) -> list[Tensor]:
        """The best regions ``(n, 2 D)`` of each image, cut to it."""
        extent = tuple(n * s for n, s in zip(outputs.scores[0].shape[2:], self.levels[0].stride, strict=True))
        if outputs.scores[0].is_meta:  # without values nobody knows which regions survive
            return [outputs.scores[0].new_empty(self.suppression.limit, 2 * len(extent)) for _ in outputs.scores[0]]
        regions = []
        for image in range(len(outputs.scores[0])):
            boxes, scores, classes = joined(self.candidates(outputs, image))
            regions.append(self.suppression(clip(boxes, extent), scores, classes).boxes)
        return regions
