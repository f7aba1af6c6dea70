"""What the heads share that hold a whole detector of another framework: they predict with imported weights only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from torch import Tensor, nn

from cphloc.errors import InputError
from cphloc.ops.targets import Detections, Prediction, Targets
from cphloc.structures.annotation import class_names


class DetectorOutput(NamedTuple):
    """Detections of each image, best first: boxes ``(n, 2 dims)`` as lo, hi; scores ``(n,)``; classes ``(n,)``."""

    boxes: list[Tensor]
    scores: list[Tensor]
    classes: list[Tensor]


class WholeDetector(nn.Module):
    """Head that stays in evaluation mode and refuses to be trained.

    Args:
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
    """

    def __init__(self, classes: Mapping[int, str] | Sequence[str]) -> None:
        super().__init__()
        self.classes = class_names(classes)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode; in training, detectors of other frameworks need the true boxes."""
        return super().train(False)

    def loss(self, outputs: DetectorOutput, targets: Targets) -> dict[str, Tensor]:
        """Refuse training.

        Raises:
            InputError: always.
        """
        msg = "this detector only predicts with imported weights; train a retina, fcos or faster_rcnn head"
        raise InputError(msg)

    def decode(self, outputs: DetectorOutput) -> Prediction:
        """Return the detections of every image."""
        return Prediction(detections=[Detections(*one) for one in zip(*outputs, strict=True)])

    @staticmethod
    def nothing(images: Tensor) -> DetectorOutput:
        """Return no detections, for images without values."""
        empty = [images.new_empty(0, 2 * (images.dim() - 2)) for _ in images]
        return DetectorOutput(empty, [e[:, 0] for e in empty], [e[:, 0].long() for e in empty])

    @staticmethod
    def gathered(found: Sequence[Mapping[str, Any]]) -> DetectorOutput:
        """Return the detections of mappings with ``boxes``, ``scores`` and ``labels``, but those of the background."""
        kept = [(one, one["labels"] > 0) for one in found]
        boxes, scores, classes = ([one[key][keep] for one, keep in kept] for key in ("boxes", "scores", "labels"))
        return DetectorOutput(boxes, scores, classes)
