"""An ensemble as one model: several networks of one recipe, whose predictions are averaged window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from cphloc.modeling.model import Model
from cphloc.ops.instance_masks import merged_detections
from cphloc.ops.targets import Detections, Prediction

AGREE_IOU = 0.3
"""Boxes of different members whose IoU exceeds this value are merged into one."""


class EnsembleModel(Model):
    """Several networks of one recipe, which see each window once and whose predictions are averaged.

    Probabilities and attention are averaged; boxes are merged by weighted box clustering, which lowers the score of an
    object that only some members find.

    Args:
        members: the networks; the first is also this module's own ``backbone``, ``neck`` and ``heads``.
        average: ``probabilities``, or ``logits`` to average the outputs of mask heads before the softmax, as nnU-Net
            does with its folds.
    """

    def __init__(self, members: Sequence[Model], average: Literal["probabilities", "logits"] = "probabilities") -> None:
        first = members[0]
        parts = first.backbone, first.neck, dict(first.heads.items()), first.weights
        super().__init__(*parts, first.mergings, first.classes)
        self.others = nn.ModuleList(members[1:])
        self.average = average

    def outputs(self, x: Tensor) -> dict[str, Any]:
        """Return the raw outputs of every head by name, a list with one element per member."""
        each = [super().outputs(x), *(other.outputs(x) for other in self._others)]
        return {name: [outputs[name] for outputs in each] for name in each[0]}

    def decode(self, outputs: Mapping[str, Any], size: tuple[int, ...]) -> dict[str, Prediction]:
        """Average the predictions of all members, by head; arguments as for `Model.decode`."""
        if self.average == "logits":
            return super().decode(
                {name: torch.stack(list(output)).mean(dim=0) for name, output in outputs.items()}, size
            )
        decoders = [super().decode, *(other.decode for other in self._others)]
        each = [
            decode({name: output[number] for name, output in outputs.items()}, size)
            for number, decode in enumerate(decoders)
        ]
        return {name: averaged([predictions[name] for predictions in each]) for name in each[0]}

    @property
    def _others(self) -> list[Model]:
        return cast("list[Model]", list(self.others))


def averaged(predictions: Sequence[Prediction]) -> Prediction:
    """Average the predictions of several networks for the same images."""
    first = predictions[0]
    return Prediction(
        mask_probabilities=_mean([p.mask_probabilities for p in predictions]),
        detections=None if first.detections is None else _merged([p.detections or [] for p in predictions]),
        attention=_mean([p.attention for p in predictions]),
        label_probabilities=_mean([p.label_probabilities for p in predictions]),
        extra={name: torch.stack([p.extra[name] for p in predictions]).mean(0) for name in first.extra},
    )


def _mean(parts: Sequence[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return torch.stack(given).mean(dim=0) if given else None


def _merged(members: Sequence[Sequence[Detections]]) -> list[Detections]:
    """Merge the boxes of all members, image by image."""
    merged = []
    for found in zip(*members, strict=True):
        expected = torch.full((sum(map(len, found)),), len(members), device=found[0].boxes.device)
        merged.append(merged_detections(found, expected, AGREE_IOU))
    return merged


def member_weights(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join the weights of the members to those of an `EnsembleModel`; one member's stay as they are."""
    first, *others = members
    return dict(first) | {f"others.{n}.{name}": value for n, of in enumerate(others) for name, value in of.items()}
