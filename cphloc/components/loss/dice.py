"""Soft Dice of masks."""

from __future__ import annotations

from torch import Tensor, nn

from cphloc.config.argument_types import Weight
from cphloc.ops.layers import one_hot
from cphloc.ops.mask_loss import mean, overlap_loss
from cphloc.structures.annotation import IGNORE


class Dice(nn.Module):
    """1 - (2 sum(p g) + eps) / (sum(p) + sum(g) + eps), averaged over classes (and cases).

    A class that is neither annotated nor predicted in a case costs nothing, because eps stands in both places.

    Args:
        squared: V-Net's denominator sum(p^2) + sum(g^2) instead of the linear one.
        batch: sum over the whole batch before dividing, so that small cases do not dominate.
        background: count the background as a class.
        smooth: eps.

    Shapes:
        logits ``(N, K + 1, *S)``, target ``(N, *S)`` int64 with 255 = not annotated, to a scalar in [0, 1].

    Reference: Milletari et al. 2016, V-Net, arXiv:1606.04797; Drozdzal et al. 2016, arXiv:1608.04117.

    >>> import torch
    >>> target = torch.tensor([[0, 1, 1]])
    >>> logits = 20.0 * torch.stack([target == 0, target == 1], dim=1)
    >>> round(float(Dice()(logits, target)), 4)
    0.0
    """

    def __init__(
        self, squared: bool = False, batch: bool = False, background: bool = False, smooth: Weight = 1e-5
    ) -> None:
        super().__init__()
        self.squared = squared
        self.batch = batch
        self.background = background
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss."""
        probability = logits.float().softmax(dim=1)
        truth = one_hot(target, logits.shape[1])
        probability = probability * (target != IGNORE).unsqueeze(1)
        if not self.background:
            probability, truth = probability[:, 1:], truth[:, 1:]
        power = 2 if self.squared else 1
        axes = tuple(range(2, logits.dim())) if not self.batch else (0, *range(2, logits.dim()))
        overlap = (probability * truth).sum(axes)
        total = (probability**power).sum(axes) + truth.sum(axes)
        return mean(overlap_loss(2 * overlap, total, self.smooth))
