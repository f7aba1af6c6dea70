"""What every mask head does with its loss: leave out the cases without a mask."""

from __future__ import annotations

from torch import Tensor, nn

from cphloc.ops.layers import carries_graph
from cphloc.ops.targets import Targets


def mask_loss(criterion: nn.Module, logits: Tensor, targets: Targets) -> Tensor:
    """Loss of logits ``(N, K + 1, *S)`` over the cases with a mask; a zero that carries the graph if there are none."""
    rows = targets.has_mask
    return criterion(logits[rows], targets.masks[rows]) if rows.any() else carries_graph(logits)
