"""Soft non-maximum suppression: overlapping boxes lose score instead of being dropped."""

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
    """Lower the score of a box that overlaps a better one of its class, so that a second object close by survives.

    Args:
        kernel: ``gaussian`` multiplies the score by ``exp(-IoU² / sigma)``, whatever the overlap; ``linear`` by
            ``1 - IoU`` where IoU exceeds ``iou``.
        sigma: IoU scale of the Gaussian.
        iou: boxes of one class whose IoU exceeds this value are duplicates; only the ``linear`` kernel needs it.
        score: detections at or below this score are dropped, also those whose score fell so low.
        pre_nms_topk: best candidates that are compared, of each pyramid level; ``None``: all.
        limit: detections kept per image.

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
        """Detections of one image by falling score, from boxes ``(n, 2 D)``, scores and classes ``(n,)`` each."""
        every = with_volume(boxes, scores, classes)
        kept, lowered = soft_nms(
            every.boxes, every.scores, every.classes, self.kernel, self.iou, self.sigma, self.score, self.limit
        )
        return Detections(every.boxes[kept], lowered, every.classes[kept])
