"""Squared error of every cell of an attention map: a loss that cannot reach zero against a binary region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cphloc.ops.attention import has_mass


class AttentionMSE(nn.Module):
    """Per-cell squared error between attention and region.

    Attention sums to 1, so a binary region of m cells leaves at least a sum of ``(m - 1)^2 / m``. An
    alternative that the lecture argues against.

    Args:
        target: ``binary`` compares with the region as it is; ``uniform`` with the region divided by its sum.
        reduction: ``sum`` or ``mean`` over the cells of a case.

    >>> attention, box = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]), torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    >>> round(AttentionMSE(reduction="mean")(attention.log(), box).item(), 6)
    0.275
    """

    def __init__(
        self, target: Literal["binary", "uniform"] = "binary", reduction: Literal["sum", "mean"] = "sum"
    ) -> None:
        super().__init__()
        self.target = target
        self.reduction = reduction

    def forward(self, log_attention: Tensor, region: Tensor, box_regions: Sequence[Tensor] | None = None) -> Tensor:
        """Loss ``(N,)`` of log attention ``(N, *S')`` and region ``(N, *S')``; 0 where a region is empty."""
        region, attention = region.float().flatten(1), log_attention.float().flatten(1).exp()
        marked = has_mass(region)
        if self.target == "uniform":
            region = region / region.sum(1, keepdim=True).clamp_min(torch.finfo(region.dtype).tiny)
        losses = (attention - region).square().sum(1)
        return torch.where(marked, losses if self.reduction == "sum" else losses / region.shape[1], 0.0)
