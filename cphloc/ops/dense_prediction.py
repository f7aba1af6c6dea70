"""Parts shared by heads that predict at every cell: base class, convolutional towers, initial biases."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cphloc.ops.detections import Suppression, joined
from cphloc.ops.layers import ConvBlock, conv_type, initialize
from cphloc.ops.targets import Prediction
from cphloc.structures.annotation import class_names
from cphloc.structures.levels import Levels

PRIOR = 0.01
PRIOR_BIAS = -math.log((1 - PRIOR) / PRIOR)
"""First bias of a score, -4.59512: nearly every cell is background, so training starts there (Lin et al. 2017)."""


MAX_WIDTH = 256


class DenseHead(nn.Module, ABC):
    """Base of heads that predict boxes at every cell of every level, with class scores and outputs per level.

    Args:
        levels: the pyramid.
        classes: foreground classes.
        loss: takes scores.
        box_loss: takes boxes.
        box_weight: weight of the box loss.
        suppression: resolves duplicate boxes of one object.
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        loss: nn.Module,
        box_loss: nn.Module,
        box_weight: float,
        suppression: Suppression,
    ) -> None:
        super().__init__()
        self.classes = class_names(classes)
        self.levels = levels
        self.criterion = loss
        self.box_criterion = box_loss
        self.box_weight = box_weight
        self.suppression = suppression

    @abstractmethod
    def candidates(self, outputs: Any, image: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The best boxes ``(n, 2 D)``, scores and classes ``(n,)`` of one image, per level."""

    def crop(self, outputs: Any, size: tuple[int, ...]) -> Any:
        """Cut every level's maps to the cells that touch an image of ``size`` voxels, without those of its padding."""
        cells = [(..., *map(slice, level.size(size))) for level in self.levels]
        return type(outputs)(*(tuple(x[at] for x, at in zip(maps, cells, strict=True)) for maps in outputs))

    def decode(self, outputs: Any) -> Prediction:
        """Detections of every image; boxes may reach beyond it."""
        images = range(len(outputs.scores[0]))
        return Prediction(detections=[self.suppression(*joined(self.candidates(outputs, i))) for i in images])


class Towers(nn.Module):
    """Parallel stacks of convolutions, shared by all levels of a pyramid.

    Levels of other widths are first brought to ``channels`` by a convolution of their own.

    Args:
        levels: the pyramid.
        channels: width.
        convolutions: depth of each stack.
        branches: how many stacks, such as one for scores and one for boxes.
    """

    def __init__(self, levels: Levels, channels: int, convolutions: int, branches: int) -> None:
        super().__init__()
        dims = levels[0].dims
        self.entries = nn.ModuleList(
            nn.Identity() if level.channels == channels else conv_type(dims)(level.channels, channels, 1)
            for level in levels
        )
        block = partial(ConvBlock, norm_name="group", activation_name="relu")
        self.stacks = nn.ModuleList(
            nn.Sequential(*(block(channels, channels, dims) for _ in range(convolutions))) for _ in range(branches)
        )
        initialize(self)

    def forward(self, pyramid: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], ...]:
        """Per branch, one map ``(N, channels, *S_l)`` per level."""
        entered = [entry(x) for entry, x in zip(self.entries, pyramid, strict=True)]
        return tuple(tuple(stack(x) for x in entered) for stack in self.stacks)


def tower_width(levels: Levels) -> int:
    """Default width of towers: that of the widest level, at most the 256 of RetinaNet and FCOS."""
    return min(MAX_WIDTH, max(level.channels for level in levels))


def predictor(channels: int, outputs: int, dims: int, bias: float = 0.0) -> nn.Module:
    """Last convolution of a head, with small weights so that it starts out at ``bias`` everywhere."""
    layer = conv_type(dims)(channels, outputs, 3, padding=1)
    nn.init.normal_(layer.weight, std=0.01)
    layer.bias = nn.Parameter(torch.full((outputs,), bias))
    return layer


def as_rows(maps: Tensor, features: int) -> Tensor:
    """Maps ``(N, A * features, *S)`` as rows ``(N, cells * A, features)``, in the order of `cphloc.ops.anchors`."""
    return maps.unflatten(1, (-1, features)).flatten(3).permute(0, 3, 1, 2).flatten(1, 2)
