"""Attention pooling: labels from the attention-weighted mean of the features of one level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from cphloc.components.loss.attention_mass import AttentionMass
from cphloc.components.loss.attention_side import AttentionSide
from cphloc.config.argument_types import NonNegativeFloat, UnitInterval
from cphloc.ops.attention import AttentionTargets, has_mass, log_softmax, mean_over_marked, pool
from cphloc.ops.labels import LabelOutput, label_layer, label_loss
from cphloc.ops.layers import conv_type
from cphloc.ops.targets import Prediction, Targets
from cphloc.structures.annotation import class_names
from cphloc.structures.levels import Levels, level_at


class AttentionOutput(NamedTuple):
    """Outputs: class logits ``(N, K)``, log attention ``(N, *S')``."""

    logits: Tensor
    log_attention: Tensor


class AttentionPool(nn.Module):
    """Predict labels from the attention-weighted mean of the features of one pyramid level.

    Attention is a softmax over all cells of the level.

    The loss is ``label + weight * attention + side_weight * side``. Boxes supervise the attention, the coarse region of
    a case without boxes supervises the side; all other cases contribute to the label loss only.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: findings, ``{1: malignant}`` or ``[malignant]``; with ``output: hazard`` the years.
        level: pyramid level to attend over; the coarsest by default.
        output: independent ``labels``, or ``hazard``, a cumulative risk over years.
        dropout: probability of dropping a pooled feature.
        weight: weight of the attention loss.
        side_weight: weight of the side loss.
        loss: attention loss for cases with boxes; default `AttentionMass`.
        side_loss: attention loss for cases with only a coarse region; default `AttentionSide`.

    Raises:
        InputError: the pyramid has no such level.

    Reference: Ilse et al. 2018, arXiv:1802.04712; its supervision: Yala, CPH 100A, "Localization and Segmentation".

    >>> import torch
    >>> from cphloc.structures.levels import Level
    >>> head = AttentionPool((Level(8, (4, 4)),), classes=["cancer"])
    >>> head.decode(head((torch.zeros(1, 8, 2, 2),))).attention
    tensor([[[0.2500, 0.2500],
             [0.2500, 0.2500]]], grad_fn=<ExpBackward0>)
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        level: int = -1,
        output: LabelOutput = "labels",
        dropout: UnitInterval = 0.0,
        weight: NonNegativeFloat = 1.0,
        side_weight: NonNegativeFloat = 1.0,
        loss: nn.Module | None = None,
        side_loss: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.classes = class_names(classes)
        self.index, self.level = level, level_at(levels, level)
        self.weight, self.side_weight = weight, side_weight
        self.criterion = loss or AttentionMass()
        self.side_criterion = side_loss or AttentionSide()
        self.score = conv_type(self.level.dims)(self.level.channels, 1, 1)
        self.dropout = nn.Dropout(dropout)
        self.labels = label_layer(output, self.level.channels, len(self.classes))

    def forward(self, pyramid: tuple[Tensor, ...]) -> AttentionOutput:
        """Pyramid to `AttentionOutput`; the log attention is float32 under autocast too."""
        features = pyramid[self.index]
        log_attention = log_softmax(self.score(features)[:, 0])
        return AttentionOutput(self.labels(self.dropout(pool(features, log_attention))), log_attention)

    def loss(self, outputs: AttentionOutput, targets: Targets) -> dict[str, Tensor]:
        """``label``, ``attention`` and ``side``, each averaged over the cases that have that annotation."""
        where = AttentionTargets.of(targets, self.level, tuple(outputs.log_attention.shape[1:]))
        attention = self.criterion(outputs.log_attention, where.region, where.boxes)
        side = self.side_criterion(outputs.log_attention, where.coarse, None)
        return {
            "label": label_loss(outputs.logits, targets.labels),
            "attention": self.weight * mean_over_marked(attention, where.region),
            "side": self.side_weight * mean_over_marked(side, where.coarse),
        }

    def loss_cases(self, targets: Targets) -> dict[str, Tensor]:
        """Number of cases that ``attention`` and ``side`` are averaged over; ``label`` is over all known labels."""
        where = AttentionTargets.of(targets, self.level, self.level.size(targets.size))
        return {"attention": has_mass(where.region).sum(), "side": has_mass(where.coarse).sum()}

    def decode(self, outputs: AttentionOutput) -> Prediction:
        """Label probabilities ``(N, K)`` and attention ``(N, *S')``."""
        return Prediction(label_probabilities=outputs.logits.float().sigmoid(), attention=outputs.log_attention.exp())
