"""From scores at every cell to the detections of one image."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from cphloc.ops.boxes import volume
from cphloc.ops.targets import Detections


def best(scores: Tensor, threshold: float, limit: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Select the highest of ``scores`` ``(n, K)`` above ``threshold``, at most ``limit``; ``None``: all.

    Returns:
        their rows ``(m,)``, classes ``(m,)`` counted from 1, and scores ``(m,)`` falling.
    """
    flat = scores.float().flatten()
    value, at = flat.topk(len(flat) if limit is None else min(limit, len(flat)))
    kept = value > threshold
    at = at[kept]
    return at // scores.shape[1], at % scores.shape[1] + 1, value[kept]


def joined(parts: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Concatenate the boxes, scores and classes of several parts of one image, such as its levels."""
    boxes, scores, classes = (torch.cat(column) for column in zip(*parts, strict=True))
    return boxes, scores, classes


def with_volume(boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
    """Make detections of one image in float32, without those whose box ``(n, 2 D)`` has no volume."""
    real = volume(boxes) > 0
    return Detections(boxes[real].float(), scores[real].float(), classes[real])


class Suppression(Protocol):
    """Interface of `cphloc.components.suppression`: turn a head's candidates into the detections of one image.

    Attributes:
        score: detections at or below this score are dropped.
        pre_nms_topk: best candidates that are compared, of each pyramid level; ``None``: all.
        limit: detections kept per image.
    """

    @property
    def score(self) -> float: ...  # noqa: D102

    @property
    def pre_nms_topk(self) -> int | None: ...  # noqa: D102

    @property
    def limit(self) -> int: ...  # noqa: D102

    def __call__(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
        """Detections by falling score, from boxes ``(n, 2 D)``, scores and classes ``(n,)`` each."""
        ...
