"""FCOS: anchor-free detection by the distances from a cell to the faces of its box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cphloc.components.loss.bce import BCE
from cphloc.components.loss.box_iou import BoxIoU
from cphloc.components.loss.focal import Focal
from cphloc.components.suppression.nms import NMS
from cphloc.config.argument_types import NonNegativeFloat, NonNegativeInt, PositiveInt
from cphloc.ops.anchors import cell_centres
from cphloc.ops.assign_fcos import assign_fcos
from cphloc.ops.boxes import MAX_LOG_SIZE, decode_faces, encode_faces
from cphloc.ops.dense_prediction import PRIOR_BIAS, DenseHead, Towers, as_rows, predictor, tower_width
from cphloc.ops.detections import Suppression, best
from cphloc.ops.partial_labels import silenced
from cphloc.ops.targets import Targets
from cphloc.structures.levels import Levels


class FCOSOutput(NamedTuple):
    """Logits ``(N, K, *S_l)``, log distances ``(N, 2 D, *S_l)`` and centre-ness ``(N, 1, *S_l)`` per level."""

    scores: tuple[Tensor, ...]
    distances: tuple[Tensor, ...]
    centreness: tuple[Tensor, ...]


class FCOS(DenseHead):
    """Predict class scores, distances to the box faces and centre-ness at every cell, with towers shared by all levels.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        radius: only cells within this distance of the box centre are positive, in cells per axis; 0: all cells inside
            the box.
        channels: channels of the towers; default that of the widest level, at most 256.
        convolutions: convolutions per tower.
        loss: classification loss; default ``focal``.
        box_loss: box regression loss on decoded boxes; default ``box_iou`` with GIoU.
        box_weight: weight of the box loss.
        suppression: resolves duplicate boxes of one object.

    Reference: Tian et al. 2019, arXiv:1904.01355. In 3-D centre-ness is the cube root of the product of three ratios.

    >>> from cphloc.structures.levels import Level
    >>> head = FCOS((Level(8, (4, 4)),), classes=["cell"], channels=8, convolutions=1)
    >>> head((torch.zeros(1, 8, 4, 4),)).distances[0].shape
    torch.Size([1, 4, 4, 4])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        radius: NonNegativeFloat = 1.5,
        channels: PositiveInt | None = None,
        convolutions: NonNegativeInt = 4,
        loss: nn.Module | None = None,
        box_loss: nn.Module | None = None,
        box_weight: NonNegativeFloat = 1.0,
        suppression: Suppression = NMS(iou=0.6),
    ) -> None:
        super().__init__(
            levels,
            classes,
            loss or Focal(),
            box_loss or BoxIoU(),
            box_weight,
            suppression,
        )
        self.radius = radius
        self.centre_criterion = BCE()
        dims, channels = levels[0].dims, channels or tower_width(levels)
        self.towers = Towers(levels, channels, convolutions, branches=2)
        self.score = predictor(channels, len(self.classes), dims, PRIOR_BIAS)
        self.distance = predictor(channels, 2 * dims, dims)
        self.centreness = predictor(channels, 1, dims)
        self.scales = nn.Parameter(torch.ones(len(levels)))

    def forward(self, pyramid: tuple[Tensor, ...]) -> FCOSOutput:
        """Predict logits, log distances and centre-ness at every cell of the pyramid."""
        scores, boxes = self.towers(pyramid)
        return FCOSOutput(
            tuple(map(self.score, scores)),
            tuple(scale * self.distance(x) for scale, x in zip(self.scales, boxes, strict=True)),
            tuple(map(self.centreness, boxes)),
        )

    def loss(self, outputs: FCOSOutput, targets: Targets) -> dict[str, Tensor]:
        """Return ``{"score", "box", "centre"}`` over the images with box annotations."""
        rows = targets.has_boxes.nonzero()[:, 0].tolist()
        points = self.points(outputs)
        scores = torch.cat([as_rows(x, len(self.classes)) for x in outputs.scores], dim=1)[rows]
        centreness = torch.cat([as_rows(x, 1) for x in outputs.centreness], dim=1)[rows][..., 0]
        predicted = torch.cat([self.boxes(outputs, level) for level in range(len(self.levels))], dim=1)[rows]
        truth, boxes = torch.zeros_like(scores, dtype=torch.float32), torch.zeros_like(predicted)
        for n, row in enumerate(rows):
            assigned = assign_fcos(points, self.levels, targets.boxes[row], self.radius)
            matched = (assigned >= 0).nonzero()[:, 0]
            truth[n, matched, targets.box_classes[row][assigned[matched]] - 1] = 1
            boxes[n, matched] = targets.boxes[row][assigned[matched]]
        scores = silenced(scores, targets.known_at(rows, torch.cat(points)) | (truth > 0))
        positive = truth.sum(dim=2) > 0
        count = max(1, int(positive.sum()))
        centre = _weights(boxes[positive].detach(), torch.cat(points).expand(*positive.shape, -1)[positive])
        box = (centre * self.box_criterion(predicted[positive], boxes[positive])).sum()
        return {
            "score": self.criterion(scores, truth).sum() / count,
            "box": self.box_weight * box / centre.sum().clamp(min=1e-6),
            "centre": self.centre_criterion(centreness[positive], centre).sum() / count,
        }

    def loss_cases(self, targets: Targets) -> dict[str, Tensor]:
        """Number of matched cells, and the sum of their centre-ness, by which ``box`` is weighted."""
        device = targets.boxes_known.device
        points = [cell_centres(level.size(targets.size), level.stride, device) for level in self.levels]
        number, weight = torch.zeros((), device=device), torch.zeros((), device=device)
        for row in targets.has_boxes.nonzero()[:, 0].tolist():
            assigned = assign_fcos(points, self.levels, targets.boxes[row], self.radius)
            matched = assigned >= 0
            number += matched.sum()
            weight += _weights(targets.boxes[row][assigned[matched]], torch.cat(points)[matched]).sum()
        return {"score": number, "centre": number, "box": weight}

    def candidates(self, outputs: FCOSOutput, image: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return the best boxes, scores (class score times centre-ness) and classes of one image, per level."""
        selected = []
        for level, (scores, centreness) in enumerate(zip(outputs.scores, outputs.centreness, strict=True)):
            score = as_rows(scores, len(self.classes))[image].float().sigmoid()
            centre = as_rows(centreness, 1)[image].float().sigmoid()
            at, classes, value = best(score * centre, self.suppression.score, self.suppression.pre_nms_topk)
            selected.append((self.boxes(outputs, level)[image, at], value, classes))
        return selected

    def points(self, outputs: FCOSOutput) -> list[Tensor]:
        """Cell centres ``(cells, D)`` of every level, in image voxels."""
        layout = zip(outputs.scores, self.levels, strict=True)
        return [cell_centres(x.shape[2:], level.stride, x.device) for x, level in layout]

    def boxes(self, outputs: FCOSOutput, level: int) -> Tensor:
        """Predicted boxes ``(N, cells, 2 D)`` of one level, in image voxels."""
        step = torch.tensor(self.levels[level].stride * 2, device=outputs.distances[level].device)
        logs = as_rows(outputs.distances[level], len(step)).float()
        return decode_faces(logs.clamp(max=MAX_LOG_SIZE).exp() * step, self.points(outputs)[level])


def _weights(boxes: Tensor, points: Tensor) -> Tensor:
    """Centre-ness of matched cells; 1 for the closest cell of a box that holds no point."""
    centre = centreness_of(boxes, points)
    return torch.where(centre > 0, centre, 1.0)


def centreness_of(boxes: Tensor, points: Tensor) -> Tensor:
    """Centre-ness ``(n,)`` of ``points`` ``(n, D)`` in ``boxes`` ``(n, 2 D)``: 1 at the centre, 0 on a face.

    It is the geometric mean over axes of the distance to the nearer face divided by that to the farther face.

    >>> centreness_of(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[1.0, 2.0]])).square()
    tensor([0.3333])
    """
    below, above = encode_faces(boxes, points).chunk(2, dim=-1)
    ratio = torch.minimum(below, above) / torch.maximum(below, above)
    return ratio.clamp(min=0).prod(dim=-1) ** (1 / below.shape[-1])
