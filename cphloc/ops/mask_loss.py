"""Parts of the losses of masks: overlap, mean, and leaving out the cases without a mask."""

from __future__ import annotations

from torch import Tensor, nn

from cphloc.ops.layers import carries_graph
from cphloc.ops.targets import Targets

LEAST_SMOOTH = 1e-7
"""Lower bound of the smoothing constant of overlap losses: below it the gradient of an absent class can overflow."""


def overlap_loss(overlap: Tensor, total: Tensor, smooth: float) -> Tensor:
    """``1 - (overlap + smooth) / (total + smooth)``, which is 0 where both are 0.

    Args:
        overlap: any shape, from 0 to ``total``.
        total: of the same shape.
        smooth: smoothing constant; values below `LEAST_SMOOTH` count as that.

    >>> import torch
    >>> overlap_loss(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 4.0]), smooth=0)
    tensor([0.0000, 0.7500])
    """
    smooth = max(smooth, LEAST_SMOOTH)
    return 1 - (overlap + smooth) / (total + smooth)


def mean(losses: Tensor) -> Tensor:
    """Mean of any number of losses; the mean of none is 0 and keeps the graph."""
    return losses.sum() / max(1, losses.numel())


def mask_loss(criterion: nn.Module, logits: Tensor, targets: Targets) -> Tensor:
    """Loss of logits ``(N, K + 1, *S)`` over the cases with a mask; a zero that carries the graph if there are none."""
    rows = targets.has_mask
    return criterion(logits[rows], targets.masks[rows]) if rows.any() else carries_graph(logits)
