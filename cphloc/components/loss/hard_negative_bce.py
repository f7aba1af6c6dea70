"""Binary cross-entropy over the positives and the hardest negatives."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import NonNegativeInt, PositiveFloat, PositiveInt
from cphloc.ops.sampling import hard_negatives


class HardNegativeBCE(nn.Module):
    """Binary cross-entropy over the positives and a few hard negatives per positive.

    Args:
        ratio: negatives per positive.
        pool: negatives are drawn at random from the ``pool`` times as many hardest; 1 takes exactly the hardest.
        minimum: negatives where there is no positive.

    Shapes:
        logits and targets in [0, 1] of one shape, to losses of that shape, float32; 0 where not chosen.

    Reference: Shrivastava et al. 2016, arXiv:1604.03540; the pool: Baumgartner et al. 2021, arXiv:2106.00817.

    >>> import torch
    >>> HardNegativeBCE(ratio=1)(torch.tensor([0.0, 0.0, -9.0]), torch.tensor([1.0, 0.0, 0.0]))
    tensor([0.6931, 0.6931, 0.0000])
    """

    def __init__(self, ratio: PositiveFloat = 3.0, pool: PositiveInt = 1, minimum: NonNegativeInt = 1) -> None:
        super().__init__()
        self.ratio = ratio
        self.pool = pool
        self.minimum = minimum

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of every element."""
        logits, targets = logits.float(), targets.float()
        loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        positive = targets > 0
        chosen = hard_negatives(logits.detach().flatten(), positive.flatten(), self.ratio, self.pool, self.minimum)
        return loss * (positive | chosen.view_as(positive))
