"""Focal loss of scores: down-weights easy examples, such as the many negatives of a dense detector."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import Exponent, UnitInterval

LEAST_ERROR = 1e-7
"""Where a prediction is certain and right its error is taken as this: a power below 1 has an infinite slope at 0."""


class Focal(nn.Module):
    """-alpha_t (1 - p_t)^gamma log p_t, element by element, with p_t the probability of the truth.

    Args:
        alpha: weight of what is present; what is absent weighs 1 - alpha. ``None``: both weigh 1.
        gamma: the higher, the lower the weight of well-classified elements; 0 is cross-entropy.

    Shapes:
        logits and targets in [0, 1] of one shape, to losses of that shape, float32.

    Reference: Lin et al. 2017, arXiv:1708.02002.

    >>> import torch
    >>> Focal()(torch.tensor([0.0]), torch.tensor([1.0]))
    tensor([0.0433])
    """

    def __init__(self, alpha: UnitInterval | None = 0.25, gamma: Exponent = 2.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of every element."""
        logits, targets = logits.float(), targets.float()
        entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        p = logits.sigmoid()
        error = p * (1 - targets) + (1 - p) * targets
        loss = error.clamp_min(LEAST_ERROR) ** self.gamma * entropy
        return loss if self.alpha is None else (self.alpha * targets + (1 - self.alpha) * (1 - targets)) * loss
