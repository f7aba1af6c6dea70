"""Attention on the right side: minus the log of the attention on the side of the finding."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cphloc.ops.attention import log_mass
from cphloc.ops.side import half_of


class AttentionSide(nn.Module):
    """`AttentionMass` of the half image that holds the region: supervision by "left" or "right" alone.

    The range is [0, inf): 0 when all attention lies on the side. Any annotation gives the side, a box as well as a
    half-image mask; a region on both sides gives none. Yala, CPH 100A, "Localization and Segmentation".

    >>> import torch
    >>> attention, side = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]), torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    >>> round(AttentionSide()(attention.log(), side).item(), 5)
    0.51083
    """

    def forward(self, log_attention: Tensor, region: Tensor, box_regions: Sequence[Tensor] | None = None) -> Tensor:
        """Loss ``(N,)`` of log attention ``(N, *S')`` and region ``(N, *S')``; 0 where a region gives no side."""
        return -log_mass(log_attention, half_of(region))
