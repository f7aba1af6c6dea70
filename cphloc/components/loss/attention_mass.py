"""Attention mass: minus the log of the attention inside the annotated region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cphloc.ops.attention import has_mass, log_mass


class AttentionMass(nn.Module):
    """``-log sum_v A_v M_v``: zero as soon as all attention lies inside, wherever inside.

    It equals the smallest ``KL(q || A)`` over all ``q`` inside the region, so it does not prescribe a shape. With
    several lesions it is zero when one of them is covered; ``per_box`` asks for attention in each.
    Yala, CPH 100A, "Localization and Segmentation".

    Args:
        mode: ``union`` asks for attention anywhere in the boxes; ``per_box`` averages over the boxes of a case, so each
            needs its share (the minimum for K disjoint boxes is ``log K``). A case without boxes counts as one box.

    >>> attention, box = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]), torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    >>> round(AttentionMass()(attention.log(), box).item(), 5)
    0.51083
    """

    def __init__(self, mode: Literal["union", "per_box"] = "union") -> None:
        super().__init__()
        self.mode = mode

    def forward(self, log_attention: Tensor, region: Tensor, box_regions: Sequence[Tensor] | None = None) -> Tensor:
        """Loss ``(N,)`` of each case, 0 where its region is empty.

        Args:
            log_attention: ``(N, *S')`` log of a map that sums to 1 over each case.
            region: ``(N, *S')`` in [0, 1].
            box_regions: N tensors ``(n, *S')``, the boxes one by one; read by ``per_box`` only.
        """
        if self.mode == "union" or box_regions is None:
            return -log_mass(log_attention, region)
        losses = []
        for log_map, union, boxes in zip(log_attention, region, box_regions, strict=True):
            drawn = boxes[has_mass(boxes)]
            parts = drawn if len(drawn) else union[None]
            losses.append(-log_mass(log_map.expand_as(parts), parts).mean())
        return torch.stack(losses) if losses else log_attention.float().flatten(1).sum(1)
