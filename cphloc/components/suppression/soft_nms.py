"""Soft non-maximum suppression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from cphloc.config.argument_types import PositiveFloat, PositiveInt, UnitInterval
from cphloc.ops.detections import with_volume
from cphloc.ops.nms import soft_nms
from cphloc.ops.targets import Detections


@dataclass(frozen=True)
class SoftNMS:
    """Lower the score of boxes that overlap a higher-scored box of their class, so that adjacent objects are kept.

    Args:
        kernel: ``gaussian`` multiplies the score by ``exp(-IoU² / sigma)`` at any IoU; ``linear`` by
            ``1 - IoU`` where IoU exceeds ``iou``.
        sigma: width of the Gaussian; ignored by ``linear``.
        iou: IoU above which ``linear`` lowers the score; ignored by ``gaussian``.
        score: detections whose lowered score is at or below this value are dropped.
        pre_nms_topk: candidates kept per pyramid level before duplicates are resolved; ``None``: all.
        limit: largest number of detections per image.

    Reference: Bodla et al. 2017, arXiv:1704.04503.

    >>> import torch
    >>> boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1]]), torch.tensor([0.9, 0.8])
    >>> SoftNMS("linear", iou=0.3)(boxes, scores, torch.tensor([1, 1])).scores
    tensor([0.9000, 0.4000])
    """

    kernel: Literal["gaussian", "linear"] = "gaussian"
    sigma: PositiveFloat = 0.5
    iou: UnitInterval = 0.5
    score: UnitInterval = 0.05
    pre_nms_topk: PositiveInt | None = 1000
    limit: PositiveInt = 100

    def __call__(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
        """Return one image's detections by descending score, from boxes ``(n, 2 D)``, scores and classes ``(n,)``."""
        every = with_volume(boxes, scores, classes)
        kept, lowered = soft_nms(
            every.boxes, every.scores, every.classes, self.kernel, self.iou, self.sigma, self.score, self.limit
        )
        return Detections(every.boxes[kept], lowered, every.classes[kept])
