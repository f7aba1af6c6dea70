"""Focal loss of masks: cross-entropy that down-weights voxels that are classified well."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cphloc.components.loss.focal import LEAST_ERROR
from cphloc.config.argument_types import Exponent, Weight
from cphloc.ops.layers import carries_graph
from cphloc.structures.annotation import IGNORE


class FocalMask(nn.Module):
    """Mean over annotated voxels of ``-w (1 - p)^gamma log p``, with p the probability of the right class.

    ``focal`` is the same idea for the independent scores of a detector.

    Args:
        gamma: 0 is cross-entropy; the higher, the lower the weight of easy voxels.
        class_weights: w of each class, background first; default all 1.

    Shapes:
        logits ``(N, K + 1, *S)``, target ``(N, *S)`` int64 with 255 = not annotated, to a scalar in [0, inf).

    Reference: Lin et al. 2017, arXiv:1708.02002.

    >>> round(FocalMask()(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.long)).item(), 6)  # log(2) / 4
    0.173287
    """

    class_weights: Tensor | None

    def __init__(self, gamma: Exponent = 2.0, class_weights: Sequence[Weight] | None = None) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss; zero (with a graph) when nothing is annotated."""
        annotated = target != IGNORE
        if not annotated.any():
            return carries_graph(logits)
        truth = target[annotated]
        log_right = logits.float().log_softmax(dim=1).movedim(1, -1)[annotated].gather(1, truth[:, None])[:, 0]
        loss = -((1 - log_right.exp()).clamp_min(LEAST_ERROR) ** self.gamma) * log_right
        return (loss if self.class_weights is None else loss * self.class_weights[truth]).mean()
