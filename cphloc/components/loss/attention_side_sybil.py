"""Sybil's side loss, a softmax of probabilities, as published."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cphloc.ops.side import side_of


class AttentionSideSybil(nn.Module):
    """Cross-entropy of ``softmax([p_lower, p_upper])`` where both are already probabilities.

    The second softmax bounds the loss: 0.3132617 with all attention on the side, 0.6931472 halfway, 1.3132617 on the
    wrong side; it never vanishes. `AttentionSide` is the loss without it. As in Sybil the middle column of an odd
    width belongs to the upper side. Mikhael et al. 2023, doi 10.1200/JCO.22.01345.

    >>> attention, side = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.0, 1.0]]])
    >>> round(AttentionSideSybil()(attention.log(), side).item(), 6)
    0.693147
    """

    def forward(self, log_attention: Tensor, region: Tensor, box_regions: Sequence[Tensor] | None = None) -> Tensor:
        """Loss ``(N,)`` of log attention ``(N, *S')`` and region ``(N, *S')``; 0 where a region gives no side."""
        attention = log_attention.float().exp()
        half = attention.shape[-1] // 2
        parts = (attention[..., :half], attention[..., half:])
        probabilities = torch.stack([part.flatten(1).sum(1) for part in parts], 1)
        return F.cross_entropy(probabilities, side_of(region), ignore_index=-1, reduction="none")
