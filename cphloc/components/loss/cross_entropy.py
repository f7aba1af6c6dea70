"""Cross-entropy of masks."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import ClassWeighting, UnitInterval
from cphloc.ops.class_weights import ClassWeights
from cphloc.ops.layers import carries_graph
from cphloc.ops.partial_labels import possible
from cphloc.structures.annotation import IGNORE

TopK = Annotated[float, Gt(0), Le(1)] | None
"""Fraction of the voxels that count in a loss; ``None`` for all."""


class CrossEntropy(nn.Module):
    """Weighted mean over annotated voxels of -log softmax(logits)[target].

    Args:
        class_weights: weights by class name (others 1), or a list with the background first, or ``balanced``: in
            inverse proportion to the voxels of each class in the training data; default all 1.
        label_smoothing: probability spread evenly over the background and all classes that were looked for.
        top_k: fraction of the annotated voxels, those with the highest loss, that count; default all. nnU-Net takes
            0.1.

    Shapes:
        logits ``(N, K + 1, *S)``, target ``(N, *S)`` int64 with 255 = not annotated, to a scalar in [0, inf).

    Reference: label smoothing Szegedy et al. 2016, arXiv:1512.00567; top-k Wu et al. 2016, arXiv:1605.06885.

    >>> CrossEntropy()(torch.zeros(1, 4, 3, 3), torch.ones(1, 3, 3, dtype=torch.long))  # log 4
    tensor(1.3863)
    """

    def __init__(
        self, class_weights: ClassWeighting = None, label_smoothing: UnitInterval = 0.0, top_k: TopK = None
    ) -> None:
        super().__init__()
        self.class_weights = ClassWeights(class_weights)
        self.label_smoothing = label_smoothing
        self.top_k = top_k

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss; zero (with a graph) when nothing is annotated, or no annotated class has a weight."""
        annotated, weights = target != IGNORE, self.class_weights()
        if not annotated.any() or (weights is not None and not weights[target[annotated]].any()):
            return carries_graph(logits)
        if not self.label_smoothing and self.top_k is None:
            return functional.cross_entropy(logits.float(), target, weights, ignore_index=IGNORE)
        truth = target[annotated]
        losses = self._of_voxels(logits.float().movedim(1, -1)[annotated], truth, weights)
        weight = torch.ones_like(losses) if weights is None else weights[truth]
        if self.top_k is not None:
            losses, hardest = losses.topk(max(1, int(self.top_k * len(losses))))
            weight = weight[hardest]
        return losses.sum() / weight.sum() if weight.any() else carries_graph(logits)

    def _of_voxels(self, logits: Tensor, truth: Tensor, weights: Tensor | None) -> Tensor:
        """Weighted loss of each voxel, from logits ``(n, K + 1)`` and classes ``(n,)``."""
        losses = -logits.log_softmax(1)
        if weights is not None:
            losses = losses * weights
        own = losses.gather(1, truth[:, None])[:, 0]
        if not self.label_smoothing:
            return own
        candidates = possible(logits)
        even = losses.masked_fill(~candidates, 0).sum(1) / candidates.sum(1).clamp_min(1)
        return (1 - self.label_smoothing) * own + self.label_smoothing * even
