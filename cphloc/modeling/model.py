"""The model: a backbone, an optional neck, and one or more heads that share a feature pyramid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from cphloc.ops.dense_prediction import DenseHead
from cphloc.ops.instance_masks import regridded
from cphloc.ops.layers import fit
from cphloc.ops.seeds import Seeds
from cphloc.ops.targets import Detections, Prediction, Targets
from cphloc.renamed import renamed
from cphloc.structures.display import Display, Displayed
from cphloc.structures.levels import Levels
from cphloc.structures.merging import Merging


class Head(Protocol):
    """Protocol of heads: outputs from a feature pyramid, losses and predictions from outputs."""

    def __call__(self, pyramid: tuple[Tensor, ...]) -> Any:
        """Compute raw outputs from feature maps ``(N, C, *S)``, from the finest level to the coarsest."""

    def loss(self, outputs: Any, targets: Targets) -> dict[str, Tensor]:
        """Return losses by name, each a scalar tensor."""
        ...

    def decode(self, outputs: Any) -> Prediction:
        """Convert raw outputs to predictions for the images of the batch."""
        ...


def levels_of(stage: nn.Module) -> Levels:
    """Return the pyramid levels (channels and strides) of the outputs of a backbone or neck."""
    return cast(Levels, stage.levels)


class Model(Displayed, nn.Module):
    """Model of a backbone, an optional neck, and one or more heads.

    Images may have any size: they are edge-padded at the end of each axis to a multiple of the coarsest stride, and
    dense outputs are cropped to the image.

    Args:
        backbone: computes a feature pyramid from an image; see ``registry/backbone``.
        neck: refines the pyramid; ``None`` for none.
        heads: heads by name; all use the same pyramid.
        weights: weight of each head's loss by head name, default 1.
        mergings: by head name, the classes of the data set that its classes stand for; other heads have all classes.
        classes: classes of the data set, number 1..K -> name; default those of the first head.
        seeds: by mask head, how cases that have a label alone get masks from the attention of another head.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module | None,
        heads: Mapping[str, nn.Module],
        weights: Mapping[str, float] | None = None,
        mergings: Mapping[str, Merging] | None = None,
        classes: Mapping[int, str] | None = None,
        seeds: Mapping[str, Seeds] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.heads = nn.ModuleDict(heads)
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in heads}
        self.mergings = dict(mergings or {})
        self.seeds = nn.ModuleDict(seeds or {})
        self._classes = classes

    @property
    def named_heads(self) -> dict[str, Head]:
        """The heads by name, typed as `Head`."""
        return cast("dict[str, Head]", dict(self.heads.items()))

    @property
    def levels(self) -> Levels:
        """Levels of the pyramid that the heads take, from the finest to the coarsest."""
        return levels_of(self.backbone if self.neck is None else self.neck)

    @property
    def classes(self) -> Mapping[int, str]:
        """Foreground classes, number 1..K -> name; see `cphloc.structures.merging` for heads that merge some."""
        if self._classes is not None:
            return self._classes
        head: Any = next(iter(self.heads.values()))
        return dict(head.classes)

    @property
    def multiple(self) -> tuple[int, ...]:
        """Coarsest stride per axis, in voxels; image sizes are padded to a multiple of it."""
        strides = [level.stride for level in (*levels_of(self.backbone), *self.levels)]
        return tuple(max(axis) for axis in zip(*strides, strict=True))

    def _display(self) -> Display:
        parts = {"backbone": self.backbone, "neck": self.neck, **self.heads}
        rows = [
            (name, f"{type(part).__name__}, {sum(p.numel() for p in part.parameters()):,} parameters")
            for name, part in parts.items()
            if part is not None
        ]
        levels = ", ".join(f"{level.channels} at {'×'.join(map(str, level.stride))}" for level in self.levels)
        return Display("Model", [*rows, ("channels at strides", levels), ("layers", "print(model.backbone) and so on")])

    def forward(self, x: Tensor) -> Any:
        """Return the raw outputs of the head, or a dict by head name if there are several heads.

        Args:
            x: ``(N, C, *S)`` preprocessed images.

        Returns:
            for a mask head, logits ``(N, K + 1, *S)``.
        """
        outputs = self.outputs(x)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def outputs(self, x: Tensor) -> dict[str, Any]:
        """Return the raw outputs of every head, by name, for images ``(N, C, *S)``."""
        size = tuple(x.shape[2:])
        padded = tuple(-(-n // m) * m for n, m in zip(size, self.multiple, strict=True))
        pyramid = self.backbone(fit(x, padded, "edge"))
        if self.neck is not None:
            pyramid = self.neck(pyramid)
        return {name: _without_padding(head, head(pyramid), padded, size) for name, head in self.heads.items()}

    @renamed("outputs", since="0.1.0")
    def raws(self, x: Tensor) -> dict[str, Any]:
        """Return `outputs` under its former name."""
        return self.outputs(x)

    def loss(self, outputs: Mapping[str, Any], targets: Targets) -> dict[str, Tensor]:
        """Return every head's losses as ``head/name``, and their weighted sum as ``loss``.

        Args:
            outputs: result of `outputs`.
            targets: annotations of the batch; a head ignores cases without the type of annotation it needs.
        """
        parts: dict[str, Tensor] = {}
        total: Any = 0.0  # a tensor after the first loss
        for name, head in self.named_heads.items():
            for part, value in head.loss(outputs[name], self.targets_of(name, targets)).items():
                parts[f"{name}/{part}"] = value
                total = total + self.weights[name] * value
        for name, value in self._seed_losses(outputs, targets).items():
            parts[f"{name}/seeds"] = value
            total = total + self.weights[name] * value
        return {"loss": total, **parts}

    def _seed_losses(self, outputs: Mapping[str, Any], targets: Targets) -> dict[str, Tensor]:
        """Losses of the masks that are seeded from the attention of another head, by mask head."""
        losses = {}
        for name, seeds in cast("dict[str, Seeds]", dict(self.seeds.items())).items():
            attention = self.named_heads[seeds.source].decode(outputs[seeds.source]).attention
            assert attention is not None
            padded = [-(-n // m) * m for n, m in zip(targets.size, self.multiple, strict=True)]
            seeded = seeds.targets(self.targets_of(name, targets), attention, padded)
            loss = self.named_heads[name].loss(outputs[name], seeded)["mask"]
            losses[name] = loss * (seeds.weight if seeds.active else 0.0)
        return losses

    def seed_cases(self, targets: Targets) -> dict[str, Tensor]:
        """Count the cases with a seeded mask, by mask head."""
        seeds = cast("dict[str, Seeds]", dict(self.seeds.items()))
        return {name: each.cases(self.targets_of(name, targets)).sum() for name, each in seeds.items()}

    def targets_of(self, head: str, targets: Targets) -> Targets:
        """Return the targets in the classes of a head, which may merge some of the data set's."""
        return targets.merged(self.mergings[head].table) if head in self.mergings else targets

    def decode(self, outputs: Mapping[str, Any], size: tuple[int, ...]) -> dict[str, Prediction]:
        """Convert raw outputs to the predictions of every head, by name.

        Args:
            outputs: result of `outputs`.
            size: image size ``(*S)`` in voxels, to which boxes are clipped; boxes outside are removed.
        """
        return {name: _clip(head.decode(outputs[name]), size) for name, head in self.named_heads.items()}


def _without_padding(head: nn.Module, output: Any, padded: tuple[int, ...], size: tuple[int, ...]) -> Any:
    """Crop outputs of a padded image to the image ``size``: by the head's own ``crop``, else all dense outputs."""
    if padded == size:
        return output
    return head.crop(output, size) if isinstance(head, DenseHead) else _crop(output, padded, size)


def _crop(output: Any, padded: tuple[int, ...], size: tuple[int, ...]) -> Any:
    """Crop dense outputs at full resolution to the image; all else is returned unchanged."""
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
    masks = prediction.mask_probabilities
    return replace(
        prediction,
        detections=[_clip_boxes(detections, size) for detections in prediction.detections],
        mask_probabilities=None if masks is None else masks[(..., *map(slice, size))],
    )


def _clip_boxes(detections: Detections, size: tuple[int, ...]) -> Detections:
    dims = len(size)
    far = torch.tensor(size * 2, dtype=detections.boxes.dtype, device=detections.boxes.device)
    boxes = torch.minimum(detections.boxes.clamp(min=0), far)
    inside = (boxes[:, dims:] > boxes[:, :dims]).all(dim=1)
    masks = detections.masks
    if masks is not None:
        masks = regridded(masks[inside], detections.boxes[inside], boxes[inside])
    return Detections(boxes[inside], detections.scores[inside], detections.classes[inside], masks)
