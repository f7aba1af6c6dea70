"""Greedy non-maximum suppression."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cphloc.config.argument_types import PositiveInt, UnitInterval
from cphloc.ops.detections import with_volume
from cphloc.ops.nms import nms
from cphloc.ops.targets import Detections


@dataclass(frozen=True)
class NMS:
    """Keep the best box of an object and drop the others; boxes of different classes never touch each other.

    Args:
        iou: boxes of one class whose IoU exceeds this value are duplicates.
        score: detections at or below this score are dropped.
        pre_nms_topk: best candidates that are compared, of each pyramid level; ``None``: all.
        limit: detections kept per image.

    >>> import torch
    >>> boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1.5]]), torch.tensor([0.9, 0.8])
    >>> NMS(iou=0.5)(boxes, scores, torch.tensor([1, 1])).scores
    tensor([0.9000])
    """

    iou: UnitInterval = 0.5
    score: UnitInterval = 0.05
    pre_nms_topk: PositiveInt | None = 1000
    limit: PositiveInt = 100

    def __call__(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
        """Detections of one image by falling score, from boxes ``(n, 2 D)``, scores and classes ``(n,)`` each."""
        every = with_volume(boxes, scores, classes)
        kept = nms(every.boxes, every.scores, self.iou, every.classes)[: self.limit]
        return Detections(every.boxes[kept], every.scores[kept], every.classes[kept])
