"""Tversky loss of masks: Dice with separate weights for false positives and false negatives."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Le
from torch import Tensor, nn

from cphloc.config.argument_types import Weight
from cphloc.ops.layers import one_hot
from cphloc.ops.mask_loss import mean, overlap_loss
from cphloc.structures.annotation import IGNORE


class Tversky(nn.Module):
    """(1 - (TP + eps) / (TP + alpha FP + beta FN + eps)) ^ gamma, averaged over foreground classes and cases.

    Args:
        alpha: weight of false positives; some papers swap the two letters.
        beta: weight of false negatives; above ``alpha`` it favours sensitivity. ``alpha = beta = 0.5`` is Dice.
        gamma: below 1 the focal Tversky loss, which keeps more gradient for nearly perfect cases; above 1 the opposite.
        batch: sum over the whole batch before dividing.
        smooth: eps.

    Shapes:
        logits ``(N, K + 1, *S)``, target ``(N, *S)`` int64 with 255 = not annotated, to a scalar in [0, 1].

    Reference: Salehi et al. 2017, arXiv:1706.05721; focal: Abraham & Khan 2019, arXiv:1810.07842.

    >>> import torch
    >>> logits, target = torch.zeros(1, 2, 10), torch.tensor([[1] + [0] * 9])
    >>> round(Tversky(alpha=0.5, beta=0.5)(logits, target).item(), 4)  # p = 0.5, 10 % foreground: Dice 1/6
    0.8333
    """

    def __init__(
        self,
        alpha: Weight = 0.3,
        beta: Weight = 0.7,
        gamma: Annotated[float, Gt(0), Le(10)] = 1.0,
        batch: bool = False,
        smooth: Weight = 1e-5,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.batch = batch
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss."""
        probability = logits.float().softmax(dim=1)[:, 1:] * (target != IGNORE).unsqueeze(1)
        truth = one_hot(target, logits.shape[1])[:, 1:]
        axes = (0, *range(2, logits.dim())) if self.batch else tuple(range(2, logits.dim()))
        hits = (probability * truth).sum(axes)
        false_positives = probability.sum(axes) - hits
        false_negatives = truth.sum(axes) - hits
        total = hits + self.alpha * false_positives + self.beta * false_negatives
        loss = overlap_loss(hits, total, self.smooth)
        # A power below 1 has an infinite slope at 0.
        return mean(loss.clamp_min(1e-6) ** self.gamma if self.gamma != 1 else loss)
