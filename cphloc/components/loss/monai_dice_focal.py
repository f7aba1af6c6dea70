"""MONAI's Dice plus focal loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cphloc.config.argument_types import Exponent, Weight
from cphloc.errors import needs
from cphloc.ops.layers import carries_graph
from cphloc.structures.annotation import IGNORE


class MonaiDiceFocal(nn.Module):
    """dice_weight x Dice + focal_weight x focal loss over the foreground classes, as MONAI computes them.

    Voxels without annotation, which MONAI does not support, are passed as background predicted with certainty.

    Args:
        gamma: exponent of the focal loss.
        dice_weight, focal_weight: weights of the two parts.

    Shapes:
        logits ``(N, K + 1, *S)``, target ``(N, *S)`` int64 with 255 = not annotated, to a scalar in [0, inf).

    Raises:
        MissingExtraError: MONAI is not installed.

    Reference: Cardoso et al. 2022, MONAI, arXiv:2211.02701.
    """

    def __init__(self, gamma: Exponent = 2.0, dice_weight: Weight = 1.0, focal_weight: Weight = 1.0) -> None:
        super().__init__()
        with needs("loss 'monai_dice_focal'"):
            from monai.losses.dice import DiceFocalLoss
        self.loss = DiceFocalLoss(
            include_background=False,
            to_onehot_y=True,
            softmax=True,
            gamma=gamma,
            lambda_dice=dice_weight,
            lambda_focal=focal_weight,
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss; zero (with a graph) for an empty batch."""
        if not len(logits):
            return carries_graph(logits)
        unknown = (target == IGNORE).unsqueeze(1)
        certain = logits.new_full((logits.shape[1],), -1e4)
        certain[0] = 1e4
        certain = certain.view(1, -1, *(1,) * (logits.dim() - 2))
        logits = torch.where(unknown, certain, logits).float()
        return self.loss(logits, target.unsqueeze(1).masked_fill(unknown, 0))
