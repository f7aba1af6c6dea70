"""Global average pooling followed by regression of one box per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cphloc.components.loss.bce import BCE
from cphloc.config.argument_types import NonNegativeFloat, UnitInterval
from cphloc.ops.boxes import from_centre_size, to_centre_size
from cphloc.ops.detections import best, with_volume
from cphloc.ops.partial_labels import silenced
from cphloc.ops.targets import Prediction, Targets
from cphloc.structures.annotation import class_names
from cphloc.structures.levels import Levels


class GlobalBoxOutput(NamedTuple):
    """Class logits ``(N, K)``, and centres and sizes ``(N, K, D)`` in voxels."""

    logits: Tensor
    centre: Tensor
    size: Tensor


class GlobalBox(nn.Module):
    """Predict for each class the probability, centre and size of one object, from globally averaged features.

    The loss is ``BCE(p) + y (centre_weight |c - c*|^2 + size_weight |s - s*|^2)``, with y = 1 if the class is present
    and 0 if not. Centres c and sizes s are fractions of the image size; squared errors are averaged over the axes. Only
    one box per class can be predicted: for two objects of a class, the optimum is the mean of their boxes.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built; the coarsest is pooled.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        centre_weight: weight of the squared error of the centre.
        size_weight: weight of the squared error of the size.
        loss: classification loss; default ``bce``.
        score_threshold: detections at or below this score are dropped.

    Reference: Yala, CPH 100A, Localization and Segmentation.

    >>> from cphloc.structures.levels import Level
    >>> GlobalBox((Level(8, (4, 4)),), classes=["nodule"])((torch.zeros(1, 8, 4, 4),)).centre.shape
    torch.Size([1, 1, 2])
    """

    class_major = ("linear",)
    """Layers whose outputs are ordered class by class; in the others the classes alternate."""

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        centre_weight: NonNegativeFloat = 1.0,
        size_weight: NonNegativeFloat = 1.0,
        loss: nn.Module | None = None,
        score_threshold: UnitInterval = 0.05,
    ) -> None:
        super().__init__()
        self.classes = class_names(classes)
        self.stride = levels[-1].stride
        self.centre_weight = centre_weight
        self.size_weight = size_weight
        self.criterion = loss or BCE()
        self.score_threshold = score_threshold
        shape = (len(self.classes), 1 + 2 * len(self.stride))
        linear = nn.Linear(levels[-1].channels, shape[0] * shape[1])
        # start with a box in the middle of the image, a quarter of it long on every axis
        first = torch.tensor([0.0] + [0.5] * len(self.stride) + [0.25] * len(self.stride))
        linear.bias = nn.Parameter(first.repeat(shape[0]))
        self.linear = nn.Sequential(linear, nn.Unflatten(1, shape))

    def forward(self, pyramid: tuple[Tensor, ...]) -> GlobalBoxOutput:
        """Predict logits, centres and sizes from the coarsest level."""
        features = pyramid[-1]
        out = self.linear(features.flatten(2).mean(dim=2)).float()
        extent = out.new_tensor([n * s for n, s in zip(features.shape[2:], self.stride, strict=True)])
        centre, size = out[..., 1:].chunk(2, dim=-1)
        return GlobalBoxOutput(out[..., 0], centre * extent, size * extent)

    def loss(self, outputs: GlobalBoxOutput, targets: Targets) -> dict[str, Tensor]:
        """Return ``{"score", "centre", "size"}`` over the images with box annotations.

        Errors of several boxes of one class in an image are averaged.
        """
        rows = targets.has_boxes.nonzero()[:, 0].tolist()
        present = torch.zeros_like(outputs.logits)
        for row in rows:
            present[row, targets.box_classes[row] - 1] = 1
        image = torch.cat(
            [torch.full_like(targets.box_classes[row], row) for row in rows] or [present.new_zeros(0).long()]
        )
        column = torch.cat([targets.box_classes[row] - 1 for row in rows] or [image])
        boxes = torch.cat([targets.boxes[row] for row in rows] or [outputs.centre.new_zeros(0, 2 * len(self.stride))])
        centre, size = to_centre_size(boxes)
        extent = outputs.centre.new_tensor(targets.size)
        share = 1 / torch.zeros_like(present).index_put_((image, column), present.new_ones(()), accumulate=True)
        weight = share[image, column] / max(1, int(present.sum()))

        known = targets.boxes_known.clone()
        for row in rows:
            known[row, targets.ignored_classes[row] - 1] = False
        logits = silenced(outputs.logits[rows], (known | (present > 0))[rows])

        def _error(predicted: Tensor, true: Tensor) -> Tensor:
            return (((predicted[image, column] - true) / extent).square().mean(dim=1) * weight).sum()

        score = self.criterion(logits, present[rows]).sum() / max(1, present[rows].numel())
        return {
            "score": score,
            "centre": self.centre_weight * _error(outputs.centre, centre),
            "size": self.size_weight * _error(outputs.size, size),
        }

    def decode(self, outputs: GlobalBoxOutput) -> Prediction:
        """Return at most one box per class and image; boxes with a size that is not positive are dropped."""
        boxes = from_centre_size(outputs.centre, outputs.size.clamp(min=0))
        detections = []
        for scores, per_class in zip(outputs.logits.sigmoid(), boxes, strict=True):
            _, classes, value = best(scores[None], self.score_threshold, len(scores))
            detections.append(with_volume(per_class[classes - 1], value, classes))
        return Prediction(detections=detections)
