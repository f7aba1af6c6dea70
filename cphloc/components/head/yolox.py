"""YOLOX: anchor-free, with decoupled towers, and SimOTA to choose who answers for what."""

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
from cphloc.ops.targets import Targets
from cphloc.structures.levels import Levels


class YOLOXOutput(NamedTuple):
    """Outputs per level: class logits ``(N, K, *S_l)``, deltas ``(N, 2 D, *S_l)``, objectness ``(N, 1, *S_l)``."""

    scores: tuple[Tensor, ...]
    deltas: tuple[Tensor, ...]
    objectness: tuple[Tensor, ...]


class YOLOX(DenseHead):
    """Class scores, objectness and a box (offset and log size in cells) at every cell.

    L = box_weight (1 - IoU) + BCE(objectness) + BCE(class, towards the IoU of the box), over the number of positives.

    Args:
        levels: what the backbone or neck gives (wired).
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        radius: cells this near to a box's centre compete for it, in cells.
        channels: width of the towers.
        convolutions: depth of the towers.
        loss: takes scores; default ``bce``.
        box_loss: takes boxes and must compare decoded boxes; default ``box_iou`` with plain IoU.
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
        """Pyramid to `YOLOXOutput`."""
        scores, boxes = self.towers(pyramid)
        return YOLOXOutput(
            tuple(map(self.score, scores)), tuple(map(self.delta, boxes)), tuple(map(self.objectness, boxes))
        )

    def loss(self, outputs: YOLOXOutput, targets: Targets) -> dict[str, Tensor]:
        """``{"score", "box", "object"}`` over the cases whose boxes are known."""
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
            shown = (predicted[n].detach(), probabilities[n])
            assigned, iou = assign_simota(points, strides, *shown, true, numbers, self.radius)
            found = (assigned >= 0).nonzero()[:, 0]
            positive[n, found] = True
            truth[n, found, numbers[assigned[found]]] = iou[found]
            boxes[n, found] = true[assigned[found]]
        count = max(1, int(positive.sum()))
        return {
            "score": self.criterion(scores[positive], truth[positive]).sum() / count,
            "box": self.box_weight * self.box_criterion(predicted[positive], boxes[positive]).sum() / count,
            "object": self.criterion(objectness, positive.float()).sum() / count,
        }

    def candidates(self, outputs: YOLOXOutput, image: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The best boxes, scores (class score times objectness) and classes of one image, per level."""
        found = []
        for scores, deltas, objectness, cells in zip(*outputs, self.cells(outputs), strict=True):
            score = as_rows(scores, len(self.classes))[image].float().sigmoid()
            joint = score * as_rows(objectness, 1)[image].float().sigmoid()
            at, classes, value = best(joint, self.suppression.score, self.suppression.pre_nms_topk)
            found.append((decode(as_rows(deltas, cells.shape[1])[image, at], cells[at]), value, classes))
        return found

    def cells(self, outputs: YOLOXOutput) -> list[Tensor]:
        """The cells of every level as boxes ``(cells, 2 D)``, in image voxels."""
        layout = zip(outputs.scores, self.levels, strict=True)
        return [grid_anchors(x.shape[2:], level.stride, [level.stride], x.device) for x, level in layout]
