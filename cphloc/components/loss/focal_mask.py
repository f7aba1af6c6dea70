"""Focal loss of masks: cross-entropy that down-weights voxels that are classified well."""

from __future__ import annotations

from torch import Tensor, nn

from cphloc.components.loss.focal import LEAST_ERROR
from cphloc.config.argument_types import ClassWeighting, Exponent
from cphloc.ops.class_weights import ClassWeights
from cphloc.ops.layers import carries_graph
from cphloc.structures.annotation import IGNORE


class FocalMask(nn.Module):
    """Mean over annotated voxels of ``-w (1 - p)^gamma log p``, with p the probability of the right class.

    ``focal`` is the same idea for the independent scores of a detector.

    Args:
        gamma: 0 is cross-entropy; the higher, the lower the weight of easy voxels.
        class_weights: w of the classes, as of ``cross_entropy``; default all 1.

    Shapes:
        logits ``(N, K + 1, *S)``, target ``(N, *S)`` int64 with 255 = not annotated, to a scalar in [0, inf).

    Reference: Lin et al. 2017, arXiv:1708.02002.

    >>> import torch
    >>> round(FocalMask()(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.long)).item(), 6)  # log(2) / 4
    0.173287
    """

    def __init__(self, gamma: Exponent = 2.0, class_weights: ClassWeighting = None) -> None:
        super().__init__()
        self.class_weights = ClassWeights(class_weights)
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss; zero (with a graph) when nothing is annotated."""
        annotated = target != IGNORE
        if not annotated.any():
            return carries_graph(logits)
        truth = target[annotated]
        log_right = logits.float().log_softmax(dim=1).movedim(1, -1)[annotated].gather(1, truth[:, None])[:, 0]
        loss = -((1 - log_right.exp()).clamp_min(LEAST_ERROR) ** self.gamma) * log_right
        weights = self.class_weights()
        return (loss if weights is None else loss * weights[truth]).mean()
