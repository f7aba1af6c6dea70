"""Building blocks of dense detectors: base class, convolutional towers, prediction layers."""

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
"""Initial foreground probability at every cell, as nearly all cells are background (Lin et al. 2017)."""

PRIOR_BIAS = -math.log((1 - PRIOR) / PRIOR)
"""Initial bias of class logits, -4.59512, the logit of `PRIOR`."""

MAX_WIDTH = 256
"""Largest default number of tower channels, that of RetinaNet and FCOS."""


class DenseHead(nn.Module, ABC):
    """Base class of heads that predict class scores and boxes at every cell of every level.

    Args:
        levels: pyramid levels.
        classes: foreground classes.
        loss: classification loss.
        box_loss: box regression loss.
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
        """Return the highest-scoring boxes ``(n, 2 D)``, scores and classes ``(n,)`` of one image, per level."""

    def crop(self, outputs: Any, size: tuple[int, ...]) -> Any:
        """Crop the maps of every level to the cells that touch an image of ``size`` voxels, without padding."""
        cells = [(..., *map(slice, level.size(size))) for level in self.levels]
        return type(outputs)(*(tuple(x[at] for x, at in zip(maps, cells, strict=True)) for maps in outputs))

    def decode(self, outputs: Any) -> Prediction:
        """Return the detections of every image; boxes are not clipped to the image."""
        images = range(len(outputs.scores[0]))
        return Prediction(detections=[self.suppression(*joined(self.candidates(outputs, i))) for i in images])


class Towers(nn.Module):
    """Parallel stacks of convolutions with weights shared by all levels of a pyramid.

    A level with another number of channels first passes through a 1x1 convolution of its own.

    Args:
        levels: pyramid levels.
        channels: channels of the stacks.
        convolutions: convolutions per stack.
        branches: number of stacks, such as one for class scores and one for boxes.
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
        """Return one map ``(N, channels, *S_l)`` per level for each branch."""
        entered = [entry(x) for entry, x in zip(self.entries, pyramid, strict=True)]
        return tuple(tuple(stack(x) for x in entered) for stack in self.stacks)


def tower_width(levels: Levels) -> int:
    """Default number of tower channels: that of the widest level, at most `MAX_WIDTH`."""
    return min(MAX_WIDTH, max(level.channels for level in levels))


def predictor(channels: int, outputs: int, dims: int, bias: float = 0.0) -> nn.Module:
    """Final 3x3 (x3) convolution of a head, initialized with small weights so that its outputs start near ``bias``."""
    layer = conv_type(dims)(channels, outputs, 3, padding=1)
    nn.init.normal_(layer.weight, std=0.01)
    layer.bias = nn.Parameter(torch.full((outputs,), bias))
    return layer


def as_rows(maps: Tensor, features: int) -> Tensor:
    """Reshape maps ``(N, A * features, *S)`` to ``(N, cells * A, features)``, in the order of `cphloc.ops.anchors`."""
    return maps.unflatten(1, (-1, features)).flatten(3).permute(0, 3, 1, 2).flatten(1, 2)
