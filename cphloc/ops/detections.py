"""From dense scores to the few boxes of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cphloc.ops.boxes import volume
from cphloc.ops.nms import nms, soft_nms
from cphloc.ops.targets import Detections
from cphloc.ops.weighted_box_clustering import weighted_box_clustering

SuppressionMethod = Literal["nms", "soft_nms_linear", "soft_nms_gaussian", "weighted_box_clustering"]
"""What becomes of the lower-scored boxes of an object: they are dropped, they lose score by their overlap, or they are
averaged with the best."""


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


def joined(found: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and classes of several parts of one image, such as its levels, as one."""
    boxes, scores, classes = (torch.cat(column) for column in zip(*found, strict=True))
    return boxes, scores, classes


def with_volume(boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
    """Detections of one image but those whose box ``(n, 2 D)`` has no volume, in float32."""
    real = volume(boxes) > 0
    return Detections(boxes[real].float(), scores[real].float(), classes[real])


@dataclass(frozen=True)
class Suppression:
    """How the many boxes a head finds for an object become one; classes never touch each other.

    Args:
        method: ``nms`` keeps the best box and drops what overlaps it; ``soft_nms_linear`` and ``soft_nms_gaussian``
            lower the score of what overlaps it, so that a second object close by survives (Bodla et al. 2017);
            ``weighted_box_clustering`` averages the boxes that agree (Jaeger et al. 2020).
        threshold: IoU above which boxes count as one object's; ``soft_nms_gaussian`` needs none.
        score_threshold: detections at or below are dropped, also those that have fallen so low.
        limit: boxes kept per image.
        sigma: IoU scale of ``soft_nms_gaussian``, which multiplies by ``exp(-IoU² / sigma)``.

    >>> boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1]]), torch.tensor([0.9, 0.8])
    >>> for method in ("nms", "soft_nms_linear"):
    ...     print(Suppression(method, threshold=0.3)(boxes, scores, torch.tensor([1, 1])).scores)
    tensor([0.9000])
    tensor([0.9000, 0.4000])
    """

    method: SuppressionMethod = "nms"
    threshold: float = 0.5
    score_threshold: float = 0.05
    limit: int = 100
    sigma: float = 0.5

    def __call__(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
        """Detections of one image by falling score, from boxes ``(n, 2 D)``, scores and classes ``(n,)`` each."""
        found = with_volume(boxes, scores, classes)
        match self.method:
            case "nms":
                order = nms(found.boxes, found.scores, self.threshold, found.classes)[: self.limit]
                return Detections(found.boxes[order], found.scores[order], found.classes[order])
            case "soft_nms_linear" | "soft_nms_gaussian":
                return self._soft(found)
            case "weighted_box_clustering":
                return self._clustered(found)

    def _soft(self, found: Detections) -> Detections:
        order, lowered = soft_nms(
            found.boxes,
            found.scores,
            found.classes,
            "linear" if self.method == "soft_nms_linear" else "gaussian",
            self.threshold,
            self.sigma,
            self.score_threshold,
            self.limit,
        )
        return Detections(found.boxes[order], lowered, found.classes[order])

    def _clustered(self, found: Detections) -> Detections:
        one_view = torch.ones_like(found.classes)
        merged = weighted_box_clustering(found.boxes, found.scores, found.classes, one_view, threshold=self.threshold)
        return Detections(*(column[: self.limit] for column in (merged.boxes, merged.scores, merged.classes)))
