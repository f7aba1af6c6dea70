"""Global max pooling: labels from the maximum of each feature over all cells."""

from __future__ import annotations

import torch
from torch import Tensor

from cphloc.components.head.gap import GapOutput, GlobalAveragePool
from cphloc.ops.cam import class_activation


class GlobalMaxPool(GlobalAveragePool):
    """Predict labels from the maximum of each feature over all cells; in 1-D the max over time of a text CNN.

    The attention is each cell's contribution to the most probable class, through the features with their maximum there.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: findings, ``{1: malignant}`` or ``[malignant]``.
        level: pyramid level to pool; the coarsest by default.

    Raises:
        InputError: the pyramid has no such level.

    Reference: Kim 2014, arXiv:1408.5882; on images Oquab et al. 2015, doi 10.1109/CVPR.2015.7298668.

    >>> from cphloc.structures.levels import Level
    >>> head = GlobalMaxPool((Level(8, (1,)),), classes=["phrase"])
    >>> sentence = torch.rand(1, 8, 20)
    >>> bool((head((sentence,)).logits == head((sentence.roll(5, 2),)).logits).all())
    True
    """

    def forward(self, pyramid: tuple[Tensor, ...]) -> GapOutput:
        """Pyramid to `GapOutput`; the sum of a map over all cells is the logit without bias."""
        features = pyramid[self.index]
        greatest, cell = features.flatten(2).max(2, keepdim=True)
        winners = torch.zeros_like(features).flatten(2).scatter(2, cell, greatest).view_as(features)
        return GapOutput(self.linear(greatest.squeeze(2)), class_activation(winners, self.linear.weight))
