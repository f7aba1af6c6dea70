"""Smooth L1 of box deltas."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import NonNegativeFloat


class SmoothL1(nn.Module):
    """x^2 / (2 beta) below ``beta``, |x| - beta / 2 above, summed over the coordinates of a box.

    Args:
        beta: where the square turns into the absolute value; 0 is plain L1.

    Shapes:
        predicted and target deltas ``(n, 2 D)`` to ``(n,)`` float32.

    Reference: Girshick 2015, Fast R-CNN, arXiv:1504.08083.

    >>> import torch
    >>> SmoothL1()(torch.tensor([[0.5, 2.0]]), torch.zeros(1, 2))
    tensor([1.6250])
    """

    compares = "deltas"
    """What a head hands over: box coordinates relative to the anchor."""

    def __init__(self, beta: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Loss of every box."""
        losses = functional.smooth_l1_loss(predicted.float(), target.float(), reduction="none", beta=self.beta)
        return losses.sum(dim=-1)
