"""A backbone, a neck, a head, a loss, a suppression, an optimizer and a schedule, usable without recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.config.argument_types import PositiveInt, UnitInterval
from cphloc.ops.mask_loss import mask_loss
from cphloc.ops.targets import Detections, Prediction, Targets
from cphloc.structures.annotation import IGNORE, class_names
from cphloc.structures.levels import Level, Levels

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}


class Stem(nn.Module):
    """Two strided convolutions: a pyramid of stride 1 and 2.

    Args:
        in_channels: channels of the image (given by the build).
        dims: 2 or 3 (given by the build).
        width: channels of the first level; the second has twice as many.
    """

    def __init__(self, in_channels: int, dims: int, width: PositiveInt = 16) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[dims]
        self.levels = (Level(width, (1,) * dims), Level(2 * width, (2,) * dims))
        self.first = convolution(in_channels, width, 3, padding=1)
        self.second = convolution(width, 2 * width, 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Feature maps ``(N, channels, *S / stride)``, fine to coarse."""
        fine = functional.relu(self.first(image))
        return fine, functional.relu(self.second(fine))


class Mix(nn.Module):
    """Gives every level the same number of channels by a 1x1 convolution.

    Args:
        levels: those of the backbone (given by the build).
        channels: of every level that comes out.
    """

    def __init__(self, levels: Levels, channels: PositiveInt = 16) -> None:
        super().__init__()
        self.levels = tuple(Level(channels, level.stride) for level in levels)
        self.mix = nn.ModuleList(CONVOLUTIONS[level.dims](level.channels, channels, 1) for level in levels)

    def forward(self, pyramid: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One feature map a level."""
        return tuple(mix(x) for mix, x in zip(self.mix, pyramid, strict=True))


class Pixels(nn.Module):
    """Scores every voxel from the finest level, which must have stride 1.

    Args:
        levels: those of the neck or backbone (given by the build).
        classes: foreground classes, ``{1: disc}`` or ``[disc]``.
        loss: a loss that takes masks; by default `L1`.
    """

    def __init__(
        self, levels: Levels, classes: Mapping[int, str] | Sequence[str], loss: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.classes = class_names(classes)
        self.criterion = loss or L1()
        self.score = CONVOLUTIONS[levels[0].dims](levels[0].channels, len(self.classes) + 1, 1)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Logits ``(N, K + 1, *S)``, background first."""
        return self.score(pyramid[0])

    def loss(self, outputs: Tensor, targets: Targets) -> dict[str, Tensor]:
        """``{"mask": scalar}`` over the cases that have a mask."""
        return {"mask": mask_loss(self.criterion, outputs, targets)}

    def decode(self, outputs: Tensor) -> Prediction:
        """Class probabilities ``(N, K + 1, *S)``."""
        return Prediction(mask_probabilities=outputs.float().softmax(dim=1))


class L1(nn.Module):
    """Mean absolute difference between class probabilities and the mask."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of logits ``(N, K + 1, *S)`` and masks ``(N, *S)``; voxels of 255 are not annotated."""
        known = target != IGNORE
        wanted = functional.one_hot(target.where(known, 0), logits.shape[1]).movedim(-1, 1)
        difference = (logits.softmax(dim=1) - wanted).abs().mean(dim=1)
        return (difference * known).sum() / known.sum().clamp(min=1)


@dataclass(frozen=True)
class Loudest:
    """Keeps the boxes of highest score, overlapping or not.

    Args:
        iou: not used; every suppression takes it.
        score: detections at or below this score are dropped (by the head).
        pre_nms_topk: best candidates of each pyramid level (kept by the head).
        limit: detections kept per image.
    """

    iou: UnitInterval = 0.5
    score: UnitInterval = 0.05
    pre_nms_topk: PositiveInt | None = 1000
    limit: PositiveInt = 10

    def __call__(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
        """Detections of one image by falling score."""
        best = scores.argsort(descending=True)[: self.limit]
        return Detections(boxes[best], scores[best], classes[best])


class Sign(torch.optim.Optimizer):
    """Moves every weight by the learning rate against the sign of its gradient (signSGD, Bernstein 2018).

    Args:
        lr: learning rate.
    """

    def __init__(self, params, lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * parameter.grad.sign())
        return loss


class Halves:
    """Halves the learning rate several times over the training.

    Args:
        halvings: how often.
    """

    def __init__(self, halvings: PositiveInt = 2) -> None:
        self.halvings = halvings

    def __call__(self, step: float, steps: int) -> float:
        """Factor on the learning rate."""
        return 0.5 ** int(step * (self.halvings + 1) / steps)
