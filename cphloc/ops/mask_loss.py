"""Parts that mask losses share: overlap, mean, and restriction to the cases with a mask."""

from __future__ import annotations

from torch import Tensor, nn

from cphloc.ops.layers import carries_graph
from cphloc.ops.partial_labels import marginalized
from cphloc.ops.targets import Targets

LEAST_SMOOTH = 1e-7
"""Lower bound of the smoothing constant of overlap losses: below it the gradient of an absent class can overflow."""


def overlap_loss(overlap: Tensor, total: Tensor, smooth: float) -> Tensor:
    """``1 - (overlap + smooth) / (total + smooth)``, which is 0 where both are 0.

    Args:
        overlap: any shape, from 0 to ``total``.
        total: of the same shape.
        smooth: smoothing constant; at least `LEAST_SMOOTH` is used.

    >>> import torch
    >>> overlap_loss(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 4.0]), smooth=0)
    tensor([0.0000, 0.7500])
    """
    smooth = max(smooth, LEAST_SMOOTH)
    return 1 - (overlap + smooth) / (total + smooth)


def mean(losses: Tensor) -> Tensor:
    """Average any number of losses; the mean of none is a 0 with zero gradients."""
    return losses.sum() / max(1, losses.numel())


def mask_loss(criterion: nn.Module, logits: Tensor, targets: Targets) -> Tensor:
    """Compute the loss of logits ``(N, K + 1, *S)`` over the cases with a mask; without any, 0.

    Classes that were not looked for in a case are merged with the background, see `cphloc.ops.partial_labels`.
    """
    rows = targets.has_mask
    if not rows.any():
        return carries_graph(logits)
    return criterion(marginalized(logits[rows], targets.mask_known[rows]), targets.masks[rows])
