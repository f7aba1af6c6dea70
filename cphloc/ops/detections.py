"""From dense scores to the few boxes of one image."""

from __future__ import annotations

import torch
from torch import Tensor

from cphloc.ops.boxes import volume
from cphloc.ops.nms import nms
from cphloc.targets import Detections


def best(scores: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """The highest of ``scores`` ``(n, K)`` above ``threshold``, at most ``limit``.

    Returns:
        their rows ``(found,)``, classes ``(found,)`` counted from 1, and scores ``(found,)`` falling.
    """
    flat = scores.float().flatten()
    value, at = flat.topk(min(limit, len(flat)))
    kept = value > threshold
    at = at[kept]
    return at // scores.shape[1], at % scores.shape[1] + 1, value[kept]


def suppressed(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float | None, limit: int) -> Detections:
    """Detections of one image, each object once, at most ``limit``.

    Args:
        boxes: ``(n, 2 D)``; those without volume are dropped.
        scores: ``(n,)``.
        classes: ``(n,)``, 1..K.
        threshold: IoU above which the lower-scored box of a class is dropped; ``None`` keeps all.
        limit: boxes kept.
    """
    real = volume(boxes) > 0
    boxes, scores, classes = boxes[real], scores[real], classes[real]
    order = (
        scores.argsort(descending=True, stable=True) if threshold is None else nms(boxes, scores, threshold, classes)
    )
    order = order[:limit]
    return Detections(boxes[order].float(), scores[order].float(), classes[order])


def from_levels(found: list[tuple[Tensor, Tensor, Tensor]], threshold: float | None, limit: int) -> Detections:
    """`suppressed` over the boxes, scores and classes found on every level of one image."""
    boxes, scores, classes = (torch.cat(column) for column in zip(*found, strict=True))
    return suppressed(boxes, scores, classes, threshold, limit)
