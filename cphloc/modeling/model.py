"""A whole model: backbone, neck, and any number of heads on one pyramid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from cphloc.ops.dense_prediction import DenseHead
from cphloc.ops.layers import fit
from cphloc.ops.targets import Detections, Prediction, Targets
from cphloc.structures.levels import Levels


class Head(Protocol):
    """What a model asks of a head: outputs from a pyramid, losses and predictions from outputs."""

    def __call__(self, pyramid: tuple[Tensor, ...]) -> Any:
        """Compute outputs from a pyramid, fine to coarse."""

    def loss(self, outputs: Any, targets: Targets) -> dict[str, Tensor]:
        """Losses by name, each a scalar."""
        ...

    def decode(self, outputs: Any) -> Prediction:
        """Predictions of every image."""
        ...


def levels_of(stage: nn.Module) -> Levels:
    """Return the pyramid that a backbone or neck publishes."""
    return cast(Levels, stage.levels)


class Model(nn.Module):
    """Backbone, neck and heads put together.

    Args:
        backbone: gives a pyramid; see ``registry/backbone``.
        neck: refines the pyramid, or ``None``.
        heads: heads by name; all read the same pyramid.
        weights: weight of each head's loss, default 1.

    An image of any size may be given: it is edge-padded at the far end to a multiple of the coarsest stride, and what
    comes out is cropped back.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module | None,
        heads: Mapping[str, nn.Module],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.heads = nn.ModuleDict(heads)
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in heads}

    @property
    def named_heads(self) -> dict[str, Head]:
        """The heads by name, as what they are."""
        return cast("dict[str, Head]", dict(self.heads.items()))

    @property
    def levels(self) -> Levels:
        """The pyramid the heads read."""
        return levels_of(self.backbone if self.neck is None else self.neck)

    @property
    def classes(self) -> dict[int, str]:
        """Foreground classes of the heads, number 1..K -> name."""
        head: Any = next(iter(self.heads.values()))
        return dict(head.classes)

    @property
    def multiple(self) -> tuple[int, ...]:
        """Per axis, the number of voxels that image sizes are padded to a multiple of."""
        strides = [level.stride for level in (*levels_of(self.backbone), *self.levels)]
        return tuple(max(axis) for axis in zip(*strides, strict=True))

    def forward(self, x: Tensor) -> Any:
        """Outputs of the only head (logits ``(N, K + 1, *S)`` for a mask head), else a dict by head name.

        Args:
            x: ``(N, C, *S)`` images as the preprocessing gives them.
        """
        outputs = self.outputs(x)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def outputs(self, x: Tensor) -> dict[str, Any]:
        """Outputs of every head by name."""
        size = tuple(x.shape[2:])
        padded = tuple(-(-n // m) * m for n, m in zip(size, self.multiple, strict=True))
        pyramid = self.backbone(fit(x, padded))
        if self.neck is not None:
            pyramid = self.neck(pyramid)
        return {name: _without_padding(head, head(pyramid), padded, size) for name, head in self.heads.items()}

    raws = outputs  # earlier name

    def loss(self, outputs: Mapping[str, Any], targets: Targets) -> dict[str, Tensor]:
        """Every head's losses as ``head/name``, and their weighted sum as ``loss``.

        Args:
            outputs: result of `outputs`.
            targets: annotations of the batch; a head ignores the cases that lack its rung.
        """
        parts: dict[str, Tensor] = {}
        total: Any = 0.0  # a tensor after the first loss
        for name, head in self.named_heads.items():
            for part, value in head.loss(outputs[name], targets).items():
                parts[f"{name}/{part}"] = value
                total = total + self.weights[name] * value
        return {"loss": total, **parts}

    def decode(self, outputs: Mapping[str, Any], size: tuple[int, ...]) -> dict[str, Prediction]:
        """Predictions of every head; boxes are clipped to the image of ``size`` voxels."""
        return {name: _clip(head.decode(outputs[name]), size) for name, head in self.named_heads.items()}


def _without_padding(head: nn.Module, output: Any, padded: tuple[int, ...], size: tuple[int, ...]) -> Any:
    """Cut outputs back to the image: as the head does it, else those at full resolution."""
    if padded == size:
        return output
    return head.crop(output, size) if isinstance(head, DenseHead) else _crop(output, padded, size)


def _crop(output: Any, padded: tuple[int, ...], size: tuple[int, ...]) -> Any:
    """Cut dense outputs at full resolution back to the image; everything else stays as it is."""
    if isinstance(output, Tensor):
        dense = output.dim() == len(size) + 2 and tuple(output.shape[2:]) == padded
        return output[(..., *(slice(n) for n in size))] if dense else output
    if isinstance(output, Mapping):
        return {key: _crop(value, padded, size) for key, value in output.items()}
    if isinstance(output, tuple | list):
        cropped = [_crop(value, padded, size) for value in output]
        return type(output)(*cropped) if hasattr(output, "_fields") else type(output)(cropped)
    return output


def _clip(prediction: Prediction, size: tuple[int, ...]) -> Prediction:
    if prediction.detections is None:
        return prediction
    return replace(prediction, detections=[_clip_boxes(found, size) for found in prediction.detections])


def _clip_boxes(found: Detections, size: tuple[int, ...]) -> Detections:
    dims = len(size)
    far = torch.tensor(size * 2, dtype=found.boxes.dtype, device=found.boxes.device)
    boxes = torch.minimum(found.boxes.clamp(min=0), far)
    inside = (boxes[:, dims:] > boxes[:, :dims]).all(dim=1)
    return Detections(boxes[inside], found.scores[inside], found.classes[inside])
