"""Cross-entropy of masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import UnitInterval, Weight
from cphloc.ops.layers import carries_graph
from cphloc.structures.annotation import IGNORE


class CrossEntropy(nn.Module):
    """Mean over annotated voxels of -log softmax(logits)[target].

    Args:
        class_weights: weight of each class, background first; default all 1.
        label_smoothing: probability spread evenly over all classes.

    Shapes:
        logits ``(N, K + 1, *S)``, target ``(N, *S)`` int64 with 255 = not annotated, to a scalar in [0, inf).

    >>> CrossEntropy()(torch.zeros(1, 4, 3, 3), torch.ones(1, 3, 3, dtype=torch.long))  # log 4
    tensor(1.3863)
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[Weight] | None = None, label_smoothing: UnitInterval = 0.0) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss; zero (with a graph) when nothing is annotated, or no annotated class has a weight."""
        annotated = target != IGNORE
        if not annotated.any() or (self.class_weights is not None and not self.class_weights[target[annotated]].any()):
            return carries_graph(logits)
        return functional.cross_entropy(
            logits.float(), target, self.class_weights, ignore_index=IGNORE, label_smoothing=self.label_smoothing
        )
