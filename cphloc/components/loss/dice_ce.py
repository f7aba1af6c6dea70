"""Dice plus cross-entropy, the default loss of masks."""

from __future__ import annotations

from torch import Tensor, nn

from cphloc.components.loss.cross_entropy import CrossEntropy, TopK
from cphloc.components.loss.dice import Dice
from cphloc.config.argument_types import ClassWeighting, UnitInterval, Weight


class DiceCE(nn.Module):
    """dice_weight x soft Dice + ce_weight x cross-entropy.

    nnU-Net reports the same loss lowered by one, because it adds -Dice instead of 1 - Dice.

    Args:
        dice_weight, ce_weight: weights of the two parts.
        squared, batch, background, smooth: see `cphloc.components.loss.dice.Dice`.
        class_weights, label_smoothing, top_k: of the cross-entropy, see
            `cphloc.components.loss.cross_entropy.CrossEntropy`.

    Shapes:
        logits ``(N, K + 1, *S)``, target ``(N, *S)`` int64 with 255 = not annotated, to a scalar in [0, inf).

    Reference: Isensee et al. 2021, nnU-Net, doi 10.1038/s41592-020-01008-z.
    """

    def __init__(
        self,
        dice_weight: Weight = 1.0,
        ce_weight: Weight = 1.0,
        squared: bool = False,
        batch: bool = False,
        background: bool = False,
        smooth: Weight = 1e-5,
        class_weights: ClassWeighting = None,
        label_smoothing: UnitInterval = 0.0,
        top_k: TopK = None,
    ) -> None:
        super().__init__()
        self.dice = Dice(squared, batch, background, smooth)
        self.cross_entropy = CrossEntropy(class_weights, label_smoothing, top_k)
        self.dice_weight = dice_weight
        self.ce_weight = ce_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss."""
        return self.dice_weight * self.dice(logits, target) + self.ce_weight * self.cross_entropy(logits, target)
