"""torchvision's detectors with an ImageNet encoder, trained as in its reference scripts.

SGD with momentum 0.9 and weight decay 1e-4, a warm-up over a twentieth of the budget, a rate that falls tenfold at two
thirds and at eleven twelfths of it, and horizontal flips. The rate of the references (0.02 for 16 pictures) is scaled
to the batch of 4.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from cphloc.evaluation.prediction import CasePrediction
from cphloc.structures.volume import Volume

from ..data import Cases
from . import Trained, pretrained

_BATCH, _RATE = 4, 0.005
_CHANNELS = 256


class Detector:
    """RetinaNet or Faster R-CNN with a feature pyramid.

    Args:
        kind: ``retinanet`` or ``fasterrcnn``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def prepare(self, cases: Cases, folder: Path) -> None:
        """Read the training cases into memory."""
        self.cases = [
            (_tensor(volume), *annotation.objects)
            for _, volume, annotation in cases.to_learn()
            if annotation.boxes is not None and len(annotation.boxes)
        ]

    def train(self, cases: Cases, steps: int, seed: int, folder: Path) -> Trained:
        """Train for ``steps`` batches of 4 pictures."""
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        model = self._model(len(cases.classes), self.cases[0][0].shape[1:])
        optimizer = torch.optim.SGD(model.parameters(), _RATE, momentum=0.9, weight_decay=1e-4)
        warmup = max(1, steps // 20)
        drops = [round(steps * 2 / 3), round(steps * 11 / 12)]
        for step in range(steps):
            rate = _RATE * min(1, (step + 1) / warmup) * 0.1 ** sum(step >= drop for drop in drops)
            for group in optimizer.param_groups:
                group["lr"] = rate
            drawn = [_flipped(*self.cases[i], rng.random() < 0.5) for i in rng.integers(0, len(self.cases), _BATCH)]
            losses = model([image for image, _ in drawn], [target for _, target in drawn])
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
        model.eval()

        def predict(volume: Volume) -> CasePrediction:
            """Predict boxes."""
            with torch.inference_mode():
                found = model([_tensor(volume)])[0]
            xyxy = found["boxes"].numpy()
            return CasePrediction(
                boxes=xyxy[:, [1, 0, 3, 2]],
                scores=found["scores"].numpy(),
                box_classes=found["labels"].numpy().astype(int),
            )

        return Trained(predict, sum(p.numel() for p in model.parameters()), _BATCH)

    def _model(self, classes: int, shape: Any) -> nn.Module:
        size = {"min_size": min(shape), "max_size": max(shape)}
        if self.kind == "fasterrcnn":
            anchors = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
            return FasterRCNN(_Backbone(LastLevelMaxPool()), classes + 1, rpn_anchor_generator=anchors, **size)
        return RetinaNet(_Backbone(LastLevelP6P7(_CHANNELS, _CHANNELS), fine=False), classes + 1, **size)


class _Backbone(nn.Module):
    """Encoder and feature pyramid.

    Args:
        extra: the levels above the encoder's.
        fine: whether the pyramid begins at stride 4 instead of 8.
    """

    def __init__(self, extra: nn.Module, fine: bool = True) -> None:
        super().__init__()
        stages = (1, 2, 3, 4) if fine else (2, 3, 4)
        self.body = timm.create_model(pretrained.NAME, features_only=True, out_indices=stages)
        pretrained.load_into(self.body)
        self.pyramid = FeaturePyramidNetwork(self.body.feature_info.channels(), _CHANNELS, extra)
        self.out_channels = _CHANNELS

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the levels by name."""
        return self.pyramid(OrderedDict((str(i), level) for i, level in enumerate(self.body(x))))


def _tensor(volume: Volume) -> Tensor:
    """Image ``(3, H, W)`` of 0 to 1."""
    image = np.broadcast_to(volume.array, (3, *volume.geometry.shape)) if volume.channels == 1 else volume.array
    return torch.from_numpy(np.ascontiguousarray(image, np.float32) / 255)


def _flipped(image: Tensor, boxes: np.ndarray, classes: np.ndarray, flip: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Image and target in torchvision's order of coordinates, mirrored from left to right or not."""
    xyxy = torch.from_numpy(np.ascontiguousarray(boxes[:, [1, 0, 3, 2]], np.float32))
    if flip:
        image = image.flip(-1)
        xyxy = torch.stack([image.shape[-1] - xyxy[:, 2], xyxy[:, 1], image.shape[-1] - xyxy[:, 0], xyxy[:, 3]], 1)
    return image, {"boxes": xyxy, "labels": torch.from_numpy(np.asarray(classes, np.int64))}
