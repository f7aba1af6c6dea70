"""Base class of anchor-based detectors, which predict class scores and box deltas for every anchor of every cell."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from cphloc.errors import InputError
from cphloc.ops.anchors import grid_anchors
from cphloc.ops.assign import IGNORED, NEGATIVE
from cphloc.ops.boxes import decode, encode, to_centre_size
from cphloc.ops.dense_prediction import PRIOR_BIAS, DenseHead, Towers, as_rows, predictor
from cphloc.ops.detections import Suppression, best
from cphloc.ops.partial_labels import silenced
from cphloc.ops.targets import Targets
from cphloc.structures.levels import Levels


class AnchorOutput(NamedTuple):
    """Outputs per level: class logits ``(N, A * K, *S_l)`` and box deltas ``(N, A * 2 D, *S_l)``."""

    scores: tuple[Tensor, ...]
    deltas: tuple[Tensor, ...]


class AnchorHead(DenseHead):
    """Base class of `retina`, `dense_box` and the region proposal network of `faster_rcnn`.

    A subclass implements `assign`, which matches anchors to ground-truth boxes, and may override `counted`, which
    selects the anchors that contribute to the loss.

    Args:
        levels: pyramid levels.
        classes: foreground classes.
        sizes: anchor sizes in image voxels, indexed by level, anchor and axis; the same number of anchors A per level.
        channels: channels of the towers.
        convolutions: convolutions per tower.
        loss: classification loss.
        box_loss: box regression loss.
        box_weight: weight of the box loss.
        suppression: resolves duplicate boxes of one object.
        score_bias: initial bias of the class logits.

    Raises:
        InputError: ``sizes`` does not match the levels or axes, levels differ in their number of anchors, or a size is
            not positive.
    """

    class_major: tuple[str, ...] = ()
    """Layers whose outputs are ordered class by class; in the others the classes alternate."""

    class_agnostic: ClassVar[bool] = False
    """Whether there is one score for objects of any class."""

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
        """Predict class logits and box deltas at every cell of the pyramid."""
        scores, deltas = self.towers(pyramid)
        return AnchorOutput(tuple(map(self.score, scores)), tuple(map(self.delta, deltas)))

    def anchors(self, outputs: AnchorOutput) -> list[Tensor]:
        """Return the anchors ``(cells * A, 2 D)`` of every level, in image voxels."""
        return self.anchors_of([x.shape[2:] for x in outputs.scores], outputs.scores[0].device)

    def anchors_of(self, cells: Sequence[Sequence[int]], device: torch.device | None = None) -> list[Tensor]:
        """Return the anchors of levels that have ``cells`` per axis."""
        layout = zip(cells, self.levels, self.sizes, strict=True)
        return [grid_anchors(shape, level.stride, sizes, device) for shape, level, sizes in layout]

    @abstractmethod
    def assign(self, anchors: Sequence[Tensor], boxes: Tensor, cells: Sequence[Sequence[int]]) -> Tensor:
        """Match anchors to ground-truth boxes.

        Args:
            anchors: ``(n_l, 2 D)`` of every level.
            boxes: ``(m, 2 D)`` ground-truth boxes of one image.
            cells: cells per axis of every level.

        Returns:
            ``(sum of n_l,)`` int64: index of a box, -1 for background or -2 for ignored.
        """

    def counted(self, assigned: Tensor) -> tuple[Tensor, int]:
        """Return which of ``assigned`` ``(n, anchors)`` contribute to the loss, and the divisor of its sum."""
        return assigned != IGNORED, max(1, int((assigned >= 0).sum()))

    def loss(self, outputs: AnchorOutput, targets: Targets) -> dict[str, Tensor]:
        """Return ``{"score": scalar, "box": scalar}`` over the images with box annotations."""
        rows = targets.has_boxes.nonzero()[:, 0].tolist()
        scores = torch.cat([as_rows(x, len(self.classes)) for x in outputs.scores], dim=1)[rows]
        deltas = torch.cat([as_rows(x, 2 * self.levels[0].dims) for x in outputs.deltas], dim=1)[rows]
        anchors, cells = self.anchors(outputs), [x.shape[2:] for x in outputs.scores]
        assigned = torch.full(scores.shape[:2], IGNORED, device=scores.device)
        known = targets.known_at(rows, to_centre_size(torch.cat(anchors))[0])
        truth = torch.zeros_like(scores, dtype=torch.float32)
        boxes = deltas.new_zeros(deltas.shape, dtype=torch.float32)
        for n, row in enumerate(rows):
            assigned[n] = self.assign(anchors, targets.boxes[row], cells)
            if self.class_agnostic:  # it may contain an object of an unknown class
                assigned[n][(assigned[n] == NEGATIVE) & ~known[n].all(1)] = IGNORED
            matched = (assigned[n] >= 0).nonzero()[:, 0]
            box = assigned[n, matched]
            truth[n, matched, self.numbers(targets.box_classes[row])[box]] = 1
            boxes[n, matched] = targets.boxes[row][box]
        if not self.class_agnostic:
            scores = silenced(scores, known | (truth > 0))
        counted, divisor = self.counted(assigned)
        positive = counted & (assigned >= 0)
        reference = torch.cat(anchors).expand_as(boxes)[positive]
        box_losses = self.box_loss(deltas[positive], reference, boxes[positive])
        return {
            "score": self.criterion(scores[counted], truth[counted]).sum() / divisor,
            "box": self.box_weight * box_losses.sum() / divisor,
        }

    def numbers(self, box_classes: Tensor) -> Tensor:
        """Return the logit channel of each box's class."""
        return torch.zeros_like(box_classes) if self.class_agnostic else box_classes - 1

    def box_loss(self, deltas: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Box loss ``(n,)`` of positive anchors, on decoded boxes or on deltas as the box loss requires."""
        if self.box_criterion.compares == "boxes":
            return self.box_criterion(decode(deltas, anchors), boxes)
        return self.box_criterion(deltas, encode(boxes, anchors))

    def candidates(self, outputs: AnchorOutput, image: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return the highest-scoring boxes ``(n, 2 D)``, scores and classes ``(n,)`` of one image, per level."""
        selected = []
        for scores, deltas, anchors in zip(outputs.scores, outputs.deltas, self.anchors(outputs), strict=True):
            score = as_rows(scores[image : image + 1], len(self.classes))[0].float().sigmoid()
            delta = as_rows(deltas[image : image + 1], anchors.shape[1])[0]
            at, classes, value = best(score, self.suppression.score, self.suppression.pre_nms_topk)
            selected.append((decode(delta[at], anchors[at]), value, classes))
        return selected


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
