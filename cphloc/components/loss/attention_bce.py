"""Binary cross-entropy of every cell of an attention map: a loss that cannot reach zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cphloc.ops.attention import finite_log, has_mass


class AttentionBCE(nn.Module):
    """Per-cell binary cross-entropy between attention and region.

    Attention sums to 1, so a region of m cells leaves at least ``m log m``, reached by the even map alone: the floor
    grows with the lesion. An alternative that the lecture argues against.

    Args:
        reduction: over the cells of a case: ``sum``, ``mean``, or ``region``, the sum per cell of the region, which
            brings small and large lesions to one scale.

    >>> attention, box = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]), torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    >>> round(AttentionBCE()(attention.log(), box).item(), 5)
    2.98776
    """

    def __init__(self, reduction: Literal["sum", "mean", "region"] = "sum") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, log_attention: Tensor, region: Tensor, box_regions: Sequence[Tensor] | None = None) -> Tensor:
        """Loss ``(N,)`` of log attention ``(N, *S')`` and region ``(N, *S')``; 0 where a region is empty."""
        region, log_attention = region.float().flatten(1), finite_log(log_attention).flatten(1)
        # With all attention in one cell log(1 - A) would be infinite there.
        log_rest = torch.log1p(-log_attention.exp().clamp_max(1 - 1e-6))
        losses = -(region * log_attention + (1 - region) * log_rest).sum(1)
        divisor = {"sum": 1, "mean": region.shape[1], "region": region.sum(1).clamp_min(1e-6)}[self.reduction]
        return torch.where(has_mass(region), losses / divisor, 0.0)
