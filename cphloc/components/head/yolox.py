"""YOLOX: anchor-free detection with separate towers for classes and boxes, and SimOTA assignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cphloc.components.loss.bce import BCE
from cphloc.components.loss.box_iou import BoxIoU
from cphloc.components.suppression.nms import NMS
from cphloc.config.argument_types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from cphloc.ops.anchors import grid_anchors
from cphloc.ops.assign_simota import assign_simota
from cphloc.ops.boxes import decode, to_centre_size
from cphloc.ops.dense_prediction import PRIOR_BIAS, DenseHead, Towers, as_rows, predictor
from cphloc.ops.detections import Suppression, best
from cphloc.ops.partial_labels import silenced
from cphloc.ops.targets import Targets
from cphloc.structures.levels import Levels


class YOLOXOutput(NamedTuple):
    """Class logits ``(N, K, *S_l)``, deltas ``(N, 2 D, *S_l)`` and objectness logits ``(N, 1, *S_l)`` per level."""

    scores: tuple[Tensor, ...]
    deltas: tuple[Tensor, ...]
    objectness: tuple[Tensor, ...]


class YOLOX(DenseHead):
    """Predict class scores, objectness and a box (offset and log size in cells) at every cell.

    The loss is ``box_weight (1 - IoU) + BCE(objectness) + BCE(class)``, summed and divided by the number of positive
    cells. The class target of a positive cell is the IoU of its predicted with its assigned box.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        radius: cells within this distance of a box centre can be assigned to it, in cells per axis.
        channels: channels of the towers.
        convolutions: convolutions per tower.
        loss: classification loss; default ``bce``.
        box_loss: box regression loss on decoded boxes; default ``box_iou`` with plain IoU.
        box_weight: weight of the box loss.
        suppression: resolves duplicate boxes of one object.

    Reference: Ge et al. 2021, arXiv:2107.08430.

    >>> from cphloc.structures.levels import Level
    >>> head = YOLOX((Level(8, (4, 4)),), classes=["cell"], channels=8)
    >>> head((torch.zeros(1, 8, 4, 4),)).objectness[0].shape
    torch.Size([1, 1, 4, 4])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        radius: PositiveFloat = 1.5,
        channels: PositiveInt = 128,
        convolutions: NonNegativeInt = 2,
        loss: nn.Module | None = None,
        box_loss: nn.Module | None = None,
        box_weight: NonNegativeFloat = 5.0,
        suppression: Suppression = NMS(iou=0.65),
    ) -> None:
        super().__init__(
            levels,
            classes,
            loss or BCE(),
            box_loss or BoxIoU("iou"),
            box_weight,
            suppression,
        )
        self.radius = radius
        dims = levels[0].dims
        self.towers = Towers(levels, channels, convolutions, branches=2)
        self.score = predictor(channels, len(self.classes), dims, PRIOR_BIAS)
        self.delta = predictor(channels, 2 * dims, dims)
        self.objectness = predictor(channels, 1, dims, PRIOR_BIAS)

    def forward(self, pyramid: tuple[Tensor, ...]) -> YOLOXOutput:
        """Predict class logits, deltas and objectness at every cell of the pyramid."""
        scores, boxes = self.towers(pyramid)
        return YOLOXOutput(
            tuple(map(self.score, scores)), tuple(map(self.delta, boxes)), tuple(map(self.objectness, boxes))
        )

    def loss(self, outputs: YOLOXOutput, targets: Targets) -> dict[str, Tensor]:
        """Return ``{"score", "box", "object"}`` over the images with box annotations."""
        rows = targets.has_boxes.nonzero()[:, 0].tolist()
        cells = torch.cat(self.cells(outputs))
        points, strides = to_centre_size(cells)
        scores = torch.cat([as_rows(x, len(self.classes)) for x in outputs.scores], dim=1)[rows].float()
        objectness = torch.cat([as_rows(x, 1) for x in outputs.objectness], dim=1)[rows][..., 0].float()
        predicted = decode(torch.cat([as_rows(x, cells.shape[1]) for x in outputs.deltas], dim=1)[rows], cells)
        probabilities = (scores.sigmoid() * objectness.sigmoid()[..., None]).detach()
        truth, boxes = torch.zeros_like(scores), torch.zeros_like(predicted)
        positive = torch.zeros_like(objectness, dtype=torch.bool)
        for n, row in enumerate(rows):
            true, numbers = targets.boxes[row], targets.box_classes[row] - 1
            prediction = (predicted[n].detach(), probabilities[n])
            assigned, iou = assign_simota(points, strides, *prediction, true, numbers, self.radius)
            matched = (assigned >= 0).nonzero()[:, 0]
            positive[n, matched] = True
            truth[n, matched, numbers[assigned[matched]]] = iou[matched]
            boxes[n, matched] = true[assigned[matched]]
        count = max(1, int(positive.sum()))
        known = targets.known_at(rows, points)
        scores = silenced(scores, known | (truth > 0))
        objectness = silenced(objectness, known.all(2) | positive)
        return {
            "score": self.criterion(scores[positive], truth[positive]).sum() / count,
            "box": self.box_weight * self.box_criterion(predicted[positive], boxes[positive]).sum() / count,
            "object": self.criterion(objectness, positive.float()).sum() / count,
        }

    def candidates(self, outputs: YOLOXOutput, image: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return the best boxes, scores (class score times objectness) and classes of one image, per level."""
        selected = []
        for scores, deltas, objectness, cells in zip(*outputs, self.cells(outputs), strict=True):
            score = as_rows(scores, len(self.classes))[image].float().sigmoid()
            joint = score * as_rows(objectness, 1)[image].float().sigmoid()
            at, classes, value = best(joint, self.suppression.score, self.suppression.pre_nms_topk)
            selected.append((decode(as_rows(deltas, cells.shape[1])[image, at], cells[at]), value, classes))
        return selected

    def cells(self, outputs: YOLOXOutput) -> list[Tensor]:
        """Return the cells of every level as boxes ``(cells, 2 D)``, in image voxels."""
        layout = zip(outputs.scores, self.levels, strict=True)
        return [grid_anchors(x.shape[2:], level.stride, [level.stride], x.device) for x, level in layout]
