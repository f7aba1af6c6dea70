"""Select candidates from dense class scores; interface of the suppression that turns them into detections."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from cphloc.ops.boxes import volume
from cphloc.ops.targets import Detections


def best(scores: Tensor, threshold: float, limit: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Select the highest ``limit`` of ``scores`` ``(n, K)`` that exceed ``threshold``; ``limit=None``: all of them.

    Returns:
        row indices ``(m,)``, classes ``(m,)`` numbered from 1, and scores ``(m,)`` in descending order.
    """
    flat = scores.float().flatten()
    value, at = flat.topk(len(flat) if limit is None else min(limit, len(flat)))
    kept = value > threshold
    at = at[kept]
    return at // scores.shape[1], at % scores.shape[1] + 1, value[kept]


def joined(parts: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Concatenate the boxes, scores and classes of several parts of one image, such as pyramid levels."""
    boxes, scores, classes = (torch.cat(column) for column in zip(*parts, strict=True))
    return boxes, scores, classes


def with_volume(boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
    """Build the `Detections` of one image in float32, dropping boxes ``(n, 2 D)`` of volume 0."""
    real = volume(boxes) > 0
    return Detections(boxes[real].float(), scores[real].float(), classes[real])


class Suppression(Protocol):
    """Interface of `cphloc.components.suppression`: turn a head's candidates into the detections of one image.

    Attributes:
        score: detections at or below this score are dropped.
        pre_nms_topk: candidates kept per pyramid level before duplicates are resolved; ``None``: all.
        limit: largest number of detections per image.
    """

    @property
    def score(self) -> float:
        """Lowest score of a detection."""
        ...

    @property
    def pre_nms_topk(self) -> int | None:
        """Candidates per level that enter, ``None`` for all."""
        ...

    @property
    def limit(self) -> int:
        """Largest number of detections in an image."""
        ...

    def __call__(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
        """Return detections by descending score, from boxes ``(n, 2 D)``, scores ``(n,)`` and classes ``(n,)``."""
        ...
