"""Binary cross-entropy of scores."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import PositiveWeight


class BCE(nn.Module):
    """-(w y log p + (1 - y) log(1 - p)) with p = sigmoid(logit), element by element.

    Args:
        positive_weight: w, the weight of what is present; above 1 where objects are rare.

    Shapes:
        logits and targets in [0, 1] of one shape, to losses of that shape, float32.

    >>> import torch
    >>> BCE()(torch.tensor([0.0]), torch.tensor([1.0]))
    tensor([0.6931])
    """

    def __init__(self, positive_weight: PositiveWeight = 1.0) -> None:
        super().__init__()
        self.positive_weight = positive_weight

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of every element."""
        logits = logits.float()
        weight = logits.new_tensor(self.positive_weight)
        return functional.binary_cross_entropy_with_logits(logits, targets.float(), pos_weight=weight, reduction="none")
