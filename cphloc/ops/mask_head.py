"""Base class of the heads that predict masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cphloc.errors import InputError
from cphloc.ops.layers import resize
from cphloc.ops.mask_loss import deep_supervision_weights, mask_loss
from cphloc.ops.regions import region_pairs
from cphloc.ops.targets import Prediction, Targets
from cphloc.structures.annotation import class_names
from cphloc.structures.levels import Levels


@runtime_checkable
class LearnsFromBoxes(Protocol):
    """Protocol of losses of masks that also learn from boxes, such as ``box_supervised``."""

    def of_boxes(self, logits: Tensor, targets: Targets) -> Tensor:
        """Compute the loss of logits ``(N, K + 1, *S)`` over the cases of `box_cases`; 0 without any."""
        ...

    def box_cases(self, targets: Targets) -> Tensor:
        """Return ``(N,)`` bool, the cases that have boxes and no mask."""
        ...


class MaskHead(nn.Module):
    """Base class of heads whose outputs are class logits ``(N, K + 1, *S)``, background first, or ``(N, K, *S)``.

    In training with deep supervision ``forward`` returns a tuple: these logits, then those of coarser outputs.

    Args:
        levels: pyramid levels of the backbone or neck.
        classes: foreground classes.
        loss: a loss that takes masks.
        supervised: level of each further output with a loss of its own; the weights of all outputs are 1, 1/2, 1/4, ...
            scaled to sum 1.
        scores: ``softmax`` over background and classes, or ``sigmoid`` of each class without background, for classes
            that may overlap; only for predictions with imported weights.
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        loss: nn.Module,
        supervised: Levels = (),
        scores: Literal["softmax", "sigmoid"] = "softmax",
    ) -> None:
        super().__init__()
        self.classes = class_names(classes)
        self.levels = levels
        self.criterion = loss
        self.supervised = supervised
        self.scores = scores
        self.weights = deep_supervision_weights(len(supervised) + 2)

    @property
    def channels(self) -> int:
        """Channels of the logits: the classes, and with ``softmax`` the background."""
        return len(self.classes) + (self.scores == "softmax")

    def begin_at(self, prior: float, layer: nn.Module) -> None:
        """Set the bias of a layer that scores classes so that they have a stated probability, where its input is 0.

        Its random weights stay, so that it learns at once from features that differ between classes.

        Args:
            prior: probability of all foreground classes together; each of K classes begins with ``prior / K``, or with
                ``prior`` if they may overlap.
            layer: a convolution with a bias.

        Reference: Lin et al. 2017, arXiv:1708.02002, section 3.3, where the weights are small, too.
        """
        bias: Tensor = getattr(layer, "bias")  # noqa: B009
        nn.init.zeros_(bias)
        with torch.no_grad():
            if self.scores == "softmax":
                bias[0] = math.log(len(self.classes) * (1 - prior) / prior)
            else:
                bias += math.log(prior / (1 - prior))

    def answer(self, full: Tensor, coarser: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Return the logits ``full`` interpolated from their grid to the image, in training with those of ``coarser``.

        Args:
            full: ``(N, K + 1, *S)`` on the grid of the finest level.
            coarser: logits of the further supervised outputs, each at its own level.
        """
        full = resize(full, [n * s for n, s in zip(full.shape[2:], self.levels[0].stride, strict=True)])
        return (full, *coarser) if coarser else full

    def loss(self, outputs: Tensor | tuple[Tensor, ...], targets: Targets) -> dict[str, Tensor]:
        """``{"mask": scalar}`` over the cases with a mask; of a loss for boxes too, ``boxes`` over those with boxes.

        Raises:
            InputError: ``scores`` is ``sigmoid``.
        """
        if self.scores == "sigmoid":
            msg = "a head with scores: sigmoid only predicts with imported weights; train with scores: softmax"
            raise InputError(msg)
        losses = {"mask": mask_loss(self.criterion, outputs, targets, self.weights, self.supervised)}
        if isinstance(self.criterion, LearnsFromBoxes):
            full = outputs if isinstance(outputs, Tensor) else outputs[0]
            losses["boxes"] = self.criterion.of_boxes(full, targets)
        return losses

    def loss_cases(self, targets: Targets) -> dict[str, Tensor]:
        """Number of cases that each of the losses is a mean of."""
        if not isinstance(self.criterion, LearnsFromBoxes):
            return {}
        return {"boxes": self.criterion.box_cases(targets).sum()}

    def decode(self, outputs: Tensor | tuple[Tensor, ...]) -> Prediction:
        """Class probabilities ``(N, K + 1, *S)``; of ``sigmoid`` `region_pairs`, ``(N, 2 K, *S)``."""
        logits = (outputs if isinstance(outputs, Tensor) else outputs[0]).float()
        return Prediction(
            mask_probabilities=logits.softmax(dim=1) if self.scores == "softmax" else region_pairs(logits)
        )
