"""Global average pooling: a classifier without attention, as a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cphloc.ops.cam import as_attention, class_activation
from cphloc.ops.labels import label_loss
from cphloc.ops.targets import Prediction, Targets
from cphloc.structures.annotation import class_names
from cphloc.structures.levels import Levels, level_at


class GapOutput(NamedTuple):
    """Outputs: class logits ``(N, K)``, class activation maps ``(N, K, *S')``."""

    logits: Tensor
    maps: Tensor


class GlobalAveragePool(nn.Module):
    """Predict labels from the mean of the features over all cells, trained with labels only.

    The attention is the class activation map of the class with the highest probability.
    `cphloc.ops.cam.grad_cam` gives the gradient-based variant.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: findings, ``{1: malignant}`` or ``[malignant]``.
        level: pyramid level to pool; the coarsest by default.

    Raises:
        InputError: the pyramid has no such level.

    Reference: Zhou et al. 2016, arXiv:1512.04150.

    >>> from cphloc.structures.levels import Level
    >>> head = GlobalAveragePool((Level(8, (4, 4)),), classes=["cancer"])
    >>> head.decode(head((torch.rand(1, 8, 2, 2),))).attention.shape
    torch.Size([1, 2, 2])
    """

    def __init__(self, levels: Levels, classes: Mapping[int, str] | Sequence[str], level: int = -1) -> None:
        super().__init__()
        self.classes = class_names(classes)
        self.index = level
        self.linear = nn.Linear(level_at(levels, level).channels, len(self.classes))

    def forward(self, pyramid: tuple[Tensor, ...]) -> GapOutput:
        """Pyramid to `GapOutput`."""
        features = pyramid[self.index]
        logits = self.linear(features.float().flatten(2).mean(2).to(features.dtype))
        return GapOutput(logits, class_activation(features, self.linear.weight))

    def loss(self, outputs: GapOutput, targets: Targets) -> dict[str, Tensor]:
        """``{"label": scalar}`` over the known labels."""
        return {"label": label_loss(outputs.logits, targets.labels)}

    def decode(self, outputs: GapOutput) -> Prediction:
        """Label probabilities ``(N, K)``, and the positive part of the map of the most probable class as attention."""
        likeliest = outputs.logits.argmax(1)
        shown = outputs.maps[torch.arange(len(likeliest), device=likeliest.device), likeliest]
        return Prediction(label_probabilities=outputs.logits.float().sigmoid(), attention=as_attention(shown))
