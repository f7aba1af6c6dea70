"""Layers and loss that turn a feature vector into labels: independent findings, or a risk that grows over the years."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from cphloc.ops.layers import carries_graph

LabelOutput = Literal["labels", "hazard"]
"""``labels``: one independent logit per class. ``hazard``: class t means "within t years", so the risk never falls."""


class CumulativeHazard(nn.Module):
    """Logits ``(N, T)`` of an event within 1..T years: ``b(h) + sum_{i <= t} relu(w_i h)``, monotone in t.

    Mikhael et al. 2023, Sybil, doi 10.1200/JCO.22.01345.

    >>> import torch
    >>> risk = CumulativeHazard(4, 6)(torch.randn(2, 4)).sigmoid()
    >>> bool((risk.diff(dim=1) >= 0).all())
    True
    """

    def __init__(self, features: int, years: int) -> None:
        super().__init__()
        self.base = nn.Linear(features, 1)
        self.hazard = nn.Linear(features, years)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, features)`` to ``(N, years)``."""
        return self.base(x) + self.hazard(x).relu().cumsum(1)


def label_layer(output: LabelOutput, features: int, classes: int) -> nn.Module:
    """Build the layer from features ``(N, features)`` to logits ``(N, classes)``."""
    return CumulativeHazard(features, classes) if output == "hazard" else nn.Linear(features, classes)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean binary cross-entropy over the known entries of ``labels`` ``(N, K)``; NaN is unknown.

    With the logits of `CumulativeHazard`, and labels that are NaN from the year a case was lost to follow-up, this is
    Sybil's survival loss.

    >>> import torch
    >>> label_loss(torch.zeros(1, 2), torch.tensor([[1.0, torch.nan]]))
    tensor(0.6931)
    """
    known = ~labels.isnan()
    if not known.any():
        return carries_graph(logits)
    return F.binary_cross_entropy_with_logits(logits[known].float(), labels[known])
