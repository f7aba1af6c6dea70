"""segmentation-models-pytorch: a U-Net with an ImageNet encoder, trained as in its examples.

Adam with a rate of 2e-4 that falls along a cosine, Dice loss, flips, shifts, scales, rotations and brightness.
"""

from __future__ import annotations

from pathlib import Path

import albumentations
import numpy as np
import segmentation_models_pytorch as smp
import torch

from cphloc.evaluation.prediction import CasePrediction
from cphloc.structures.volume import Volume

from ..data import Cases
from . import Trained, pretrained

_BATCH = 8


class SmpUnet:
    """A U-Net of smp."""

    def prepare(self, cases: Cases, folder: Path) -> None:
        """Read the training cases into memory."""
        self.cases = [
            (_rgb(volume), annotation.mask) for _, volume, annotation in cases.to_learn() if annotation.mask is not None
        ]

    def train(self, cases: Cases, steps: int, seed: int, folder: Path) -> Trained:
        """Train for ``steps`` batches of 8 pictures."""
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        classes = len(cases.classes) + 1
        model = smp.Unet(f"tu-{pretrained.NAME}", encoder_weights=None, in_channels=3, classes=classes)
        pretrained.load_into(model.encoder.model)
        optimizer = torch.optim.Adam(model.parameters(), 2e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 1e-5)
        loss = smp.losses.DiceLoss("multiclass")
        change = albumentations.Compose(
            [
                albumentations.HorizontalFlip(p=0.5),
                albumentations.ShiftScaleRotate(0.1, 0.2, 15, border_mode=0, p=0.7),
                albumentations.RandomBrightnessContrast(p=0.5),
            ],
            seed=seed,
        )
        for _ in range(steps):
            drawn = [self.cases[i] for i in rng.integers(0, len(self.cases), _BATCH)]
            changed = [change(image=image, mask=mask) for image, mask in drawn]
            images = torch.stack([_tensor(each["image"]) for each in changed])
            masks = torch.stack([torch.from_numpy(each["mask"].astype(np.int64)) for each in changed])
            optimizer.zero_grad()
            loss(model(images), masks).backward()
            optimizer.step()
            schedule.step()
        model.eval()

        def predict(volume: Volume) -> CasePrediction:
            """Predict the class of each pixel."""
            with torch.inference_mode():
                logits = model(_tensor(_rgb(volume))[None])
            return CasePrediction(mask=logits.argmax(1)[0].numpy().astype(np.uint8))

        return Trained(predict, sum(p.numel() for p in model.parameters()), _BATCH)


def _rgb(volume: Volume) -> np.ndarray:
    """Image ``(H, W, 3)`` of 0 to 1."""
    image = np.broadcast_to(volume.array, (3, *volume.geometry.shape)) if volume.channels == 1 else volume.array
    return np.ascontiguousarray(np.moveaxis(image, 0, -1), np.float32) / 255


def _tensor(image: np.ndarray) -> torch.Tensor:
    normalized = (image - np.float32(pretrained.MEAN)) / np.float32(pretrained.STD)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(normalized, -1, 0), np.float32))
