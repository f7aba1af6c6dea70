"""Detection by anchors: every cell holds reference boxes, each of which predicts its class scores and a correction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cphloc.errors import InputError
from cphloc.ops.anchors import grid_anchors
from cphloc.ops.assign import IGNORED
from cphloc.ops.boxes import decode, encode
from cphloc.ops.dense_prediction import PRIOR_BIAS, DenseHead, Towers, as_rows, predictor
from cphloc.ops.detections import Suppression, best
from cphloc.ops.targets import Targets
from cphloc.structures.levels import Levels


class AnchorOutput(NamedTuple):
    """Outputs per level: class logits ``(N, A * K, *S_l)`` and box deltas ``(N, A * 2 D, *S_l)``."""

    scores: tuple[Tensor, ...]
    deltas: tuple[Tensor, ...]


class AnchorHead(DenseHead):
    """What `retina`, `dense_box` and the region proposals of `faster_rcnn` share.

    A subclass says in `assign` which anchor answers for which box, and may choose in `counted` which anchors take part
    in the loss.

    Args:
        levels: the pyramid.
        classes: foreground classes.
        sizes: anchor sizes in image voxels, per level, anchor and axis; equally many on each level.
        channels: width of the towers.
        convolutions: depth of the towers.
        loss: takes scores.
        box_loss: takes boxes.
        box_weight: weight of the box loss.
        suppression: resolves duplicate boxes of one object.
        score_bias: initial bias of the class logits.

    Raises:
        InputError: the anchors do not fit the levels.
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        sizes: Sequence[Sequence[Sequence[float]]],
        channels: int,
        convolutions: int,
        loss: nn.Module,
        box_loss: nn.Module,
        box_weight: float,
        suppression: Suppression,
        score_bias: float = PRIOR_BIAS,
    ) -> None:
        super().__init__(levels, classes, loss, box_loss, box_weight, suppression)
        _check(sizes, levels)
        self.sizes = sizes
        dims, anchors = levels[0].dims, len(sizes[0])
        self.towers = Towers(levels, channels, convolutions, branches=2)
        self.score = predictor(channels, anchors * len(self.classes), dims, score_bias)
        self.delta = predictor(channels, anchors * 2 * dims, dims)

    def forward(self, pyramid: tuple[Tensor, ...]) -> AnchorOutput:
        """Pyramid to `AnchorOutput`."""
        scores, deltas = self.towers(pyramid)
        return AnchorOutput(tuple(map(self.score, scores)), tuple(map(self.delta, deltas)))

    def anchors(self, outputs: AnchorOutput) -> list[Tensor]:
        """Anchors ``(cells * A, 2 D)`` of every level, in image voxels."""
        layout = zip(outputs.scores, self.levels, self.sizes, strict=True)
        return [grid_anchors(x.shape[2:], level.stride, sizes, x.device) for x, level, sizes in layout]

    @abstractmethod
    def assign(self, anchors: Sequence[Tensor], boxes: Tensor, cells: Sequence[Sequence[int]]) -> Tensor:
        """Assignment ``(anchors of all levels,)`` as in `cphloc.ops.assign`."""

    def counted(self, assigned: Tensor) -> tuple[Tensor, int]:
        """Which of ``assigned`` ``(n, anchors)`` take part in the loss, and what to divide it by."""
        return assigned != IGNORED, max(1, int((assigned >= 0).sum()))

    def loss(self, outputs: AnchorOutput, targets: Targets) -> dict[str, Tensor]:
        """``{"score": scalar, "box": scalar}`` over the cases whose boxes are known."""
        rows = targets.has_boxes.nonzero()[:, 0].tolist()
        scores = torch.cat([as_rows(x, len(self.classes)) for x in outputs.scores], dim=1)[rows]
        deltas = torch.cat([as_rows(x, 2 * self.levels[0].dims) for x in outputs.deltas], dim=1)[rows]
        anchors, cells = self.anchors(outputs), [x.shape[2:] for x in outputs.scores]
        assigned = torch.full(scores.shape[:2], IGNORED, device=scores.device)
        truth = torch.zeros_like(scores, dtype=torch.float32)
        boxes = deltas.new_zeros(deltas.shape, dtype=torch.float32)
        for n, row in enumerate(rows):
            assigned[n] = self.assign(anchors, targets.boxes[row], cells)
            found = (assigned[n] >= 0).nonzero()[:, 0]
            which = assigned[n, found]
            truth[n, found, self.numbers(targets.box_classes[row])[which]] = 1
            boxes[n, found] = targets.boxes[row][which]
        counted, divisor = self.counted(assigned)
        positive = counted & (assigned >= 0)
        reference = torch.cat(anchors).expand_as(boxes)[positive]
        box = self.box_loss(deltas[positive], reference, boxes[positive])
        return {
            "score": self.criterion(scores[counted], truth[counted]).sum() / divisor,
            "box": self.box_weight * box.sum() / divisor,
        }

    def numbers(self, box_classes: Tensor) -> Tensor:
        """Column of each box's class in the logits."""
        return box_classes - 1

    def box_loss(self, deltas: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Loss ``(n,)`` of the positives, in the terms that the box loss compares."""
        if self.box_criterion.compares == "boxes":
            return self.box_criterion(decode(deltas, anchors), boxes)
        return self.box_criterion(deltas, encode(boxes, anchors))

    def candidates(self, outputs: AnchorOutput, image: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The best boxes, scores and classes of one image, per level."""
        found = []
        for scores, deltas, anchors in zip(outputs.scores, outputs.deltas, self.anchors(outputs), strict=True):
            score = as_rows(scores[image : image + 1], len(self.classes))[0].float().sigmoid()
            delta = as_rows(deltas[image : image + 1], anchors.shape[1])[0]
            at, classes, value = best(score, self.suppression.score, self.suppression.pre_nms_topk)
            found.append((decode(delta[at], anchors[at]), value, classes))
        return found


def _check(sizes: Sequence[Sequence[Sequence[float]]], levels: Levels) -> None:
    if len(sizes) != len(levels):
        msg = f"anchors are given for {len(sizes)} levels but the pyramid has {len(levels)}; give one list per level"
        raise InputError(msg)
    if len({len(level) for level in sizes}) != 1:
        msg = f"every level needs the same number of anchors, got {[len(level) for level in sizes]}"
        raise InputError(msg)
    wrong = [size for level in sizes for size in level if len(size) != levels[0].dims or min(size) <= 0]
    if wrong:
        msg = f"anchor {list(wrong[0])} needs {levels[0].dims} positive sizes in voxels, one per axis"
        raise InputError(msg)
