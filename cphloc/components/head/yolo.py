"""YOLO, first version: every cell of a coarse grid predicts a few boxes and one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cphloc.components.suppression.nms import NMS
from cphloc.config.argument_types import NonNegativeFloat, PositiveInt
from cphloc.ops.anchors import cell_centres, grid_anchors
from cphloc.ops.assign import assign_centre_cell, reach_every_box
from cphloc.ops.boxes import from_centre_size, overlap, to_centre_size
from cphloc.ops.dense_prediction import as_rows
from cphloc.ops.detections import Suppression, best
from cphloc.ops.layers import conv_type
from cphloc.ops.targets import Prediction, Targets
from cphloc.structures.annotation import class_names
from cphloc.structures.levels import Levels


class YOLO(nn.Module):
    """Predict B boxes with objectness and one set of class scores at every cell of the coarsest level.

    A box is coded as the position of its centre in the cell (0 to 1) and the square roots of its size as a fraction of
    the image, which limits the influence of large boxes. A ground-truth box is assigned to the cell that contains its
    centre, and there to the predictor of highest IoU, or of smallest error if none overlaps. The objectness target of
    that predictor is its IoU, that of all others 0. All losses are squared errors.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built; the coarsest is the grid.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        boxes: number B of boxes predicted per cell.
        coordinate_weight: weight of the loss of centre and size.
        empty_weight: weight of the objectness loss of predictors without an assigned box.
        suppression: resolves duplicate boxes of one object.

    Shapes:
        pyramid to ``(N, B (2 D + 1) + K, *S)``: 7 x 7 x 30 for 2-D, two boxes and 20 classes.

    Reference: Redmon et al. 2016, arXiv:1506.02640.

    >>> from cphloc.structures.levels import Level
    >>> head = YOLO((Level(8, (64, 64)),), classes=[f"c{i}" for i in range(20)])
    >>> head((torch.zeros(1, 8, 7, 7),)).numel()
    1470
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        boxes: PositiveInt = 2,
        coordinate_weight: NonNegativeFloat = 5.0,
        empty_weight: NonNegativeFloat = 0.5,
        suppression: Suppression = NMS(pre_nms_topk=None),
    ) -> None:
        super().__init__()
        self.classes = class_names(classes)
        self.stride = levels[-1].stride
        self.predictors = boxes
        self.coordinate_weight = coordinate_weight
        self.empty_weight = empty_weight
        self.suppression = suppression
        dims = levels[-1].dims
        self.out = conv_type(dims)(levels[-1].channels, boxes * (2 * dims + 1) + len(self.classes), 1)
        nn.init.normal_(self.out.weight, std=0.01)
        # start in the middle of the cell with boxes about a sixteenth of the image long, each of another size
        first = torch.tensor([0.5] * dims + [0.25] * dims + [0.0]).repeat(boxes, 1)
        first[:, dims : 2 * dims] *= torch.linspace(0.5, 1.5, boxes)[:, None] if boxes > 1 else 1
        self.out.bias = nn.Parameter(torch.cat([first.flatten(), torch.zeros(len(self.classes))]))

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Predict the grid ``(N, B (2 D + 1) + K, *S)`` from the coarsest level."""
        return self.out(pyramid[-1])

    def loss(self, outputs: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return ``{"box", "object", "empty", "class"}``, averaged over the images with box annotations."""
        rows = targets.has_boxes.nonzero()[:, 0].tolist()
        parts = outputs.new_zeros(4, dtype=torch.float32) + 0 * outputs[rows].float().sum()
        for row in rows:
            centres = cell_centres(outputs.shape[2:], self.stride, outputs.device)
            known = targets.known_at([row], centres)[0]
            parts = parts + self._image_loss(
                outputs[row : row + 1], targets.boxes[row], targets.box_classes[row], known
            )
        return dict(zip(("box", "object", "empty", "class"), parts / max(1, len(rows)), strict=True))

    def decode(self, outputs: Tensor) -> Prediction:
        """Return the detections of every image, scored by class score times objectness; boxes are not clipped."""
        detections = []
        for image in range(len(outputs)):
            codes, objectness, scores = self._split(outputs[image : image + 1])
            joint = (objectness[..., None] * scores[:, None]).clamp(0, 1).flatten(0, 1)
            at, classes, value = best(joint, self.suppression.score, self.suppression.pre_nms_topk)
            boxes = self._boxes(codes, outputs.shape[2:]).flatten(0, 1)[at]
            detections.append(self.suppression(boxes, value, classes))
        return Prediction(detections=detections)

    def _image_loss(self, outputs: Tensor, boxes: Tensor, classes: Tensor, known: Tensor) -> Tensor:
        """Loss parts ``(4,)`` of one image; cells without a box count only where all classes are ``known``."""
        cells = outputs.shape[2:]
        codes, objectness, scores = self._split(outputs)
        assigned, _ = assign_centre_cell(boxes, cells, self.stride)
        assigned = reach_every_box(assigned, grid_anchors(cells, self.stride, [self.stride], boxes.device), boxes)
        cell = (assigned >= 0).nonzero()[:, 0]
        true = boxes[assigned[cell]]
        wanted = self._codes(true, cell, cells)
        with torch.no_grad():
            iou = overlap(self._boxes(codes, cells)[cell], true[:, None])
            error = (codes[cell] - wanted[:, None]).square().sum(dim=-1)
            responsible = torch.where(iou.amax(dim=1, keepdim=True) > 0, iou, -error).argmax(dim=1)
        reached = iou[torch.arange(len(cell)), responsible]
        answers = torch.zeros_like(objectness, dtype=torch.bool)
        answers[cell, responsible] = True
        empty = ~answers & known.all(1, keepdim=True)
        onehot = nn.functional.one_hot(classes[assigned[cell]] - 1, len(self.classes))
        return torch.stack(
            [
                self.coordinate_weight * (codes[cell, responsible] - wanted).square().sum(),
                (objectness[cell, responsible] - reached).square().sum(),
                self.empty_weight * objectness[empty].square().sum(),
                ((scores[cell] - onehot).square() * (known.expand_as(scores)[cell] | (onehot > 0))).sum(),
            ]
        )

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split one image into box codes ``(cells, B, 2 D)``, objectness ``(cells, B)``, scores ``(cells, K)``."""
        rows = as_rows(outputs, outputs.shape[1])[0].float()
        boxes = rows[:, : -len(self.classes)].unflatten(1, (self.predictors, -1))
        return boxes[..., :-1], boxes[..., -1], rows[:, -len(self.classes) :]

    def _grid(self, cells: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return lower corners ``(cells, D)`` of the cells, stride ``(D,)`` and image size ``(D,)``, in voxels."""
        step = torch.tensor(self.stride, dtype=torch.float32, device=like.device)
        corner = cell_centres(cells, self.stride, like.device) - step / 2
        return corner, step, step * torch.tensor(cells, device=like.device)

    def _boxes(self, codes: Tensor, cells: Sequence[int]) -> Tensor:
        corner, step, extent = self._grid(cells, codes)
        place, root = codes.chunk(2, dim=-1)
        return from_centre_size(corner[:, None] + place * step, root.clamp(min=0) ** 2 * extent)

    def _codes(self, boxes: Tensor, cell: Tensor, cells: Sequence[int]) -> Tensor:
        corner, step, extent = self._grid(cells, boxes)
        centre, size = to_centre_size(boxes)
        return torch.cat([(centre - corner[cell]) / step, (size / extent).sqrt()], dim=-1)
