"""CenterNet: detection of box centres as peaks of a heat map, without anchors or non-maximum suppression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import NonNegativeFloat, NonNegativeInt, PositiveInt, UnitInterval
from cphloc.ops.anchors import cell_centres
from cphloc.ops.boxes import from_centre_size, to_centre_size
from cphloc.ops.dense_prediction import PRIOR_BIAS, Towers, as_rows, predictor
from cphloc.ops.detections import best, with_volume
from cphloc.ops.heatmap import draw_centres, peaks
from cphloc.ops.partial_labels import silenced
from cphloc.ops.targets import Prediction, Targets
from cphloc.structures.annotation import class_names
from cphloc.structures.levels import Levels


class CenterNetOutput(NamedTuple):
    """Heat map logits ``(N, K, *S_0)``, and centre offsets and sizes ``(N, D, *S_0)`` in cells."""

    heat: Tensor
    offset: Tensor
    size: Tensor


class CenterNet(nn.Module):
    """Predict a heat map of box centres, the offset of the centre within its cell, and the size, on the finest level.

    The loss is the penalty-reduced focal loss of the heat map, plus ``offset_weight`` and ``size_weight`` times L1
    losses of offset and size in the cells of the centres, each divided by the number of objects. Detections are the
    local maxima of the heat map.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built; only the finest is
            used, so a neck is recommended.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        offset_weight: weight of the L1 loss of the offset, in cells.
        size_weight: weight of the L1 loss of the size, in cells.
        channels: channels of the towers.
        convolutions: convolutions per tower.
        score_threshold: detections at or below this score are dropped.
        detections: largest number of detections per image.

    Reference: Zhou et al. 2019, arXiv:1904.07850.

    >>> from cphloc.structures.levels import Level
    >>> head = CenterNet((Level(8, (4, 4)),), classes=["cell"], channels=8)
    >>> head((torch.zeros(1, 8, 4, 4),)).heat.shape
    torch.Size([1, 1, 4, 4])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        offset_weight: NonNegativeFloat = 1.0,
        size_weight: NonNegativeFloat = 0.1,
        channels: PositiveInt = 64,
        convolutions: NonNegativeInt = 1,
        score_threshold: UnitInterval = 0.05,
        detections: PositiveInt = 100,
    ) -> None:
        super().__init__()
        self.classes = class_names(classes)
        self.stride = levels[0].stride
        self.offset_weight = offset_weight
        self.size_weight = size_weight
        self.score_threshold = score_threshold
        self.detections = detections
        dims = levels[0].dims
        self.towers = Towers(levels[:1], channels, convolutions, branches=2)
        self.heat = predictor(channels, len(self.classes), dims, PRIOR_BIAS)
        self.offset = predictor(channels, dims, dims)
        self.size = predictor(channels, dims, dims)

    def forward(self, pyramid: tuple[Tensor, ...]) -> CenterNetOutput:
        """Predict heat map, offsets and sizes on the finest level of the pyramid."""
        (scores,), (boxes,) = self.towers(pyramid[:1])
        return CenterNetOutput(self.heat(scores), self.offset(boxes), self.size(boxes))

    def loss(self, outputs: CenterNetOutput, targets: Targets) -> dict[str, Tensor]:
        """Return ``{"score", "offset", "size"}`` over the images with box annotations."""
        rows = targets.has_boxes.nonzero()[:, 0].tolist()
        cells, dims = outputs.heat.shape[2:], len(self.stride)
        step = torch.tensor(self.stride, device=outputs.heat.device)
        last = torch.tensor(cells, device=outputs.heat.device) - 1
        heat = torch.zeros_like(outputs.heat, dtype=torch.float32)
        offset, size = outputs.offset.new_zeros(0), outputs.size.new_zeros(0)
        for row in rows:
            centre, extent = (x / step for x in to_centre_size(targets.boxes[row]))
            index = centre.long().clamp(min=0).minimum(last)
            heat[row] = draw_centres(index, extent.detach(), targets.box_classes[row] - 1, heat.shape[1], cells)
            at = (row, slice(None), *index.T)
            offset = torch.cat([offset, _l1(outputs.offset[at].reshape(dims, -1).T, centre - index - 0.5)])
            size = torch.cat([size, _l1(outputs.size[at].reshape(dims, -1).T, extent)])
        count = max(1, sum(len(targets.boxes[row]) for row in rows))
        known = targets.known_at(rows, cell_centres(cells, self.stride, heat.device)).mT
        known = known.unflatten(2, cells if known.shape[2] > 1 else (1,) * dims) | (heat[rows] == 1)
        return {
            "score": heatmap_loss(silenced(outputs.heat[rows], known), heat[rows]) / count,
            "offset": self.offset_weight * (offset.sum() + 0 * outputs.offset[rows].sum()) / count,
            "size": self.size_weight * (size.sum() + 0 * outputs.size[rows].sum()) / count,
        }

    def loss_cases(self, targets: Targets) -> dict[str, Tensor]:
        """Number of boxes, of which all losses are means."""
        rows = targets.has_boxes.nonzero()[:, 0].tolist()
        number = torch.tensor(sum(len(targets.boxes[row]) for row in rows), device=targets.boxes_known.device)
        return {"score": number, "offset": number, "size": number}

    def decode(self, outputs: CenterNetOutput) -> Prediction:
        """Return the boxes at the heat map peaks of every image; they are not clipped to the image."""
        step = torch.tensor(self.stride, device=outputs.heat.device)
        centre = cell_centres(outputs.heat.shape[2:], self.stride, outputs.heat.device)
        scores = as_rows(peaks(outputs.heat.float().sigmoid()), len(self.classes))
        offset, size = as_rows(outputs.offset, len(step)), as_rows(outputs.size, len(step)).clamp(min=0)
        boxes = from_centre_size(centre + offset * step, size * step)
        detections = []
        for score, box in zip(scores, boxes, strict=True):
            at, classes, value = best(score, self.score_threshold, self.detections)
            detections.append(with_volume(box[at], value, classes))
        return Prediction(detections=detections)


def heatmap_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Penalty-reduced focal loss, summed: -(1 - p)^2 log p where ``heat`` is 1, else -(1 - heat)^4 p^2 log(1 - p)."""
    logits = logits.float()
    p = logits.sigmoid()
    present = -((1 - p) ** 2) * functional.logsigmoid(logits)
    absent = -((1 - heat) ** 4) * p**2 * functional.logsigmoid(-logits)
    return torch.where(heat == 1, present, absent).sum()


def _l1(predicted: Tensor, true: Tensor) -> Tensor:
    return (predicted.float() - true).abs().mean(dim=1)
