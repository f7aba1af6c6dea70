"""Pooling of Sybil: attention within each slice, attention over the slices, and a global maximum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cphloc.components.loss.attention_kl import AttentionKL
from cphloc.components.loss.attention_side_sybil import AttentionSideSybil
from cphloc.config.argument_types import NonNegativeFloat, PositiveInt, UnitInterval
from cphloc.errors import InputError
from cphloc.ops.attention import AttentionTargets, has_mass, log_softmax, mean_over_marked, pool
from cphloc.ops.labels import LabelOutput, label_layer, label_loss
from cphloc.ops.targets import Prediction, Targets
from cphloc.structures.annotation import class_names
from cphloc.structures.levels import Levels, level_at


class MultiAttentionOutput(NamedTuple):
    """Outputs of T slices of ``(*P)`` cells.

    Logits ``(N, K)``; log attention within each slice ``(N, T, *P)``; over the slices, of the attended slice features
    ``(N, T)`` and of their maxima ``(N, T)``.
    """

    logits: Tensor
    log_slice_attention: Tensor
    log_volume_attention: Tensor
    log_volume_attention_of_maxima: Tensor

    @property
    def log_attention(self) -> Tensor:
        """Log attention of every cell ``(N, T, *P)``: the product of slice and volume attention, which sums to 1."""
        volume = self.log_volume_attention
        return self.log_slice_attention + volume.view(*volume.shape, *(1,) * (self.log_slice_attention.dim() - 2))


class MultiAttention(nn.Module):
    """Attention within slices, attention over slices, and maxima, pooled side by side as in Sybil.

    Slices lie along the first spatial axis (rows, in 2-D). Boxes supervise the attention within each slice
    they cross and over the slices; the coarse region of a case without boxes supervises the side, in each slice and in
    the whole volume.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: findings; with ``output: hazard`` the years.
        level: pyramid level to attend over; the coarsest by default.
        output: independent ``labels``, or ``hazard``, Sybil's cumulative risk over years.
        dropout: probability of dropping a hidden unit.
        slice_kernel: kernel size of the convolution over the maxima of the slices; odd.
        weight: weight of the attention losses.
        side_weight: weight of the side losses.
        loss: attention loss for cases with boxes; default `AttentionKL`.
        side_loss: attention loss for cases with only a coarse region; default `AttentionSideSybil`.

    Raises:
        InputError: the pyramid has no such level; an even ``slice_kernel``.

    Reference: Mikhael et al. 2023, Sybil, doi 10.1200/JCO.22.01345.

    >>> from cphloc.structures.levels import Level
    >>> head = MultiAttention((Level(8, (1, 4, 4)),), classes=[f"year {t}" for t in range(1, 7)], output="hazard")
    >>> round(head((torch.rand(1, 8, 5, 2, 2),)).log_attention.exp().sum().item(), 4)
    1.0
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        level: int = -1,
        output: LabelOutput = "labels",
        dropout: UnitInterval = 0.0,
        slice_kernel: PositiveInt = 11,
        weight: NonNegativeFloat = 1.0,
        side_weight: NonNegativeFloat = 1.0,
        loss: nn.Module | None = None,
        side_loss: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if slice_kernel % 2 == 0:
            msg = f"slice_kernel is {slice_kernel} but must be odd, to keep the number of slices"
            raise InputError(msg)
        self.classes = class_names(classes)
        self.index, self.level = level, level_at(levels, level)
        self.weight, self.side_weight = weight, side_weight
        self.criterion = loss or AttentionKL()
        self.side_criterion = side_loss or AttentionSideSybil()
        channels = self.level.channels
        self.slice_score = nn.Linear(channels, 1)
        self.volume_score = nn.Linear(channels, 1)
        self.maxima = nn.Conv1d(channels, channels, slice_kernel, padding=slice_kernel // 2, bias=False)
        self.maxima_score = nn.Linear(channels, 1)
        self.hidden = nn.Sequential(nn.Linear(3 * channels, channels), nn.ReLU(), nn.Dropout(dropout))
        self.labels = label_layer(output, channels, len(self.classes))

    def forward(self, pyramid: tuple[Tensor, ...]) -> MultiAttentionOutput:
        """Pyramid to `MultiAttentionOutput`; every attention is float32 under autocast too."""
        features = pyramid[self.index]
        count, channels, slices, *plane = features.shape
        by_slice = features.flatten(3).transpose(1, 2).flatten(0, 1)
        log_slice = log_softmax(_scores(self.slice_score, by_slice))
        attended = pool(by_slice, log_slice).view(count, slices, channels).transpose(1, 2)
        maxima = self.maxima(features.flatten(3).amax(3))
        log_volume = log_softmax(_scores(self.volume_score, attended))
        log_maxima = log_softmax(_scores(self.maxima_score, maxima))
        pooled = (pool(attended, log_volume), pool(maxima, log_maxima), features.flatten(2).amax(2))
        logits = self.labels(self.hidden(torch.cat(pooled, 1)))
        return MultiAttentionOutput(logits, log_slice.view(count, slices, *plane), log_volume, log_maxima)

    def loss(self, outputs: MultiAttentionOutput, targets: Targets) -> dict[str, Tensor]:
        """``label``; ``slice_attention`` and ``volume_attention``; ``slice_side`` and ``volume_side``.

        Slice terms are averaged over the slices with a non-empty region, volume terms over such cases.
        """
        where = AttentionTargets.of(targets, self.level, tuple(outputs.log_slice_attention.shape[1:]))
        slices = outputs.log_slice_attention.flatten(0, 1)
        region, coarse = where.region.flatten(0, 1), where.coarse.flatten(0, 1)
        boxes_by_slice = [boxes[:, t] for boxes in where.boxes for t in range(boxes.shape[1])]
        in_slices = mean_over_marked(self.criterion(slices, region, boxes_by_slice), region)
        side_in_slices = mean_over_marked(self.side_criterion(slices, coarse, None), coarse)
        side_in_volume = mean_over_marked(self.side_criterion(outputs.log_attention, where.coarse, None), where.coarse)
        return {
            "label": label_loss(outputs.logits, targets.labels),
            "slice_attention": self.weight * in_slices,
            "volume_attention": self.weight * self._over_slices(outputs, where),
            "slice_side": self.side_weight * side_in_slices,
            "volume_side": self.side_weight * side_in_volume,
        }

    def loss_cases(self, targets: Targets) -> dict[str, Tensor]:
        """Number of slices or cases that the attention losses are averaged over."""
        where = AttentionTargets.of(targets, self.level, self.level.size(targets.size))
        maps = {"attention": where.region, "side": where.coarse}
        of_slices = {f"slice_{name}": has_mass(marked.flatten(0, 1)).sum() for name, marked in maps.items()}
        return of_slices | {f"volume_{name}": has_mass(marked).sum() for name, marked in maps.items()}

    def decode(self, outputs: MultiAttentionOutput) -> Prediction:
        """Label probabilities ``(N, K)`` and attention ``(N, *S')``."""
        return Prediction(label_probabilities=outputs.logits.float().sigmoid(), attention=outputs.log_attention.exp())

    def _over_slices(self, outputs: MultiAttentionOutput, where: AttentionTargets) -> Tensor:
        """Compute the loss of both attentions over slices against the fraction of each slice that is annotated."""
        region = where.region.flatten(2).mean(2)
        boxes = [boxes.flatten(2).mean(2) for boxes in where.boxes]
        maps = (outputs.log_volume_attention, outputs.log_volume_attention_of_maxima)
        losses = [mean_over_marked(self.criterion(log_map, region, boxes), region) for log_map in maps]
        return torch.stack(losses).sum()


def _scores(linear: nn.Linear, features: Tensor) -> Tensor:
    """Scores ``(N, cells)`` of features ``(N, C, cells)``."""
    return linear(features.transpose(1, 2))[..., 0]
