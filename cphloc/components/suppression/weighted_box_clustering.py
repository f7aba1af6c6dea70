"""Weighted box clustering."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cphloc.config.argument_types import PositiveInt, UnitInterval
from cphloc.ops.detections import with_volume
from cphloc.ops.targets import Detections
from cphloc.ops.weighted_box_clustering import weighted_box_clustering


@dataclass(frozen=True)
class WeightedBoxClustering:
    """Average overlapping boxes of a class, weighted by score and by IoU with the highest-scored box of the cluster.

    Args:
        iou: boxes of one class whose IoU with the cluster's highest-scored box exceeds this value join the cluster.
        score: candidates at or below this score are dropped.
        pre_nms_topk: candidates kept per pyramid level before duplicates are resolved; ``None``: all.
        limit: largest number of detections per image.

    Reference: Jaeger et al. 2020, Retina U-Net, arXiv:1811.08661.

    >>> boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1]]), torch.tensor([0.9, 0.9])
    >>> WeightedBoxClustering(iou=0.3)(boxes, scores, torch.tensor([1, 1])).boxes
    tensor([[0.0000, 0.0000, 2.0000, 1.6667]])
    """

    iou: UnitInterval = 0.5
    score: UnitInterval = 0.05
    pre_nms_topk: PositiveInt | None = 1000
    limit: PositiveInt = 100

    def __call__(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
        """Return one image's detections by descending score, from boxes ``(n, 2 D)``, scores and classes ``(n,)``."""
        every = with_volume(boxes, scores, classes)
        views = torch.ones_like(every.classes)
        merged = weighted_box_clustering(every.boxes, every.scores, every.classes, views, threshold=self.iou)
        return Detections(merged.boxes[: self.limit], merged.scores[: self.limit], merged.classes[: self.limit])
