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
    """Drop boxes that overlap a higher-scored box of the same class.

    Args:
        iou: boxes of one class whose IoU exceeds this value are treated as duplicates.
        score: detections at or below this score are dropped.
        pre_nms_topk: candidates kept per pyramid level before duplicates are resolved; ``None``: all.
        limit: largest number of detections per image.

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
        """Return one image's detections by descending score, from boxes ``(n, 2 D)``, scores and classes ``(n,)``."""
        every = with_volume(boxes, scores, classes)
        kept = nms(every.boxes, every.scores, self.iou, every.classes)[: self.limit]
        return Detections(every.boxes[kept], every.scores[kept], every.classes[kept])
