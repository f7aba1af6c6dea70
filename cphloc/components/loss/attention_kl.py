"""Kullback-Leibler divergence from the region, spread evenly, to the attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cphloc.ops.attention import finite_log


class AttentionKL(nn.Module):
    """``KL(q || A)`` with ``q`` the region divided by its sum: attention must cover the region evenly.

    The loss of Sybil (Mikhael et al. 2023, doi 10.1200/JCO.22.01345) for its slices and its volume. It reaches 0, but
    only for a map as wide as the region, corners included.

    >>> attention, box = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]), torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    >>> round(AttentionKL()(attention.log(), box).item(), 6)
    0.569717
    """

    def forward(self, log_attention: Tensor, region: Tensor, box_regions: Sequence[Tensor] | None = None) -> Tensor:
        """Loss ``(N,)`` of log attention ``(N, *S')`` and region ``(N, *S')``; 0 where a region is empty."""
        region = region.float().flatten(1)
        wanted = region / region.sum(1, keepdim=True).clamp_min(torch.finfo(region.dtype).tiny)
        return (torch.xlogy(wanted, wanted) - wanted * finite_log(log_attention).flatten(1)).sum(1)
