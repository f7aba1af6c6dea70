"""Collect the scores of a mask for an image that is prepared whole, and restore them at once."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from cphloc.data.pipeline.slabs import class_mask
from cphloc.ops.regions import painted, region_logits


class WholeImage(Protocol):
    """An image that is prepared whole, as nnU-Net and MONAI do it."""

    resamples: Literal["logits", "probabilities"]
    """What is resampled to the grid of the image before classes are decided."""

    def restored(self, scores: np.ndarray, /) -> np.ndarray:
        """Resample scores ``(K, *S)`` of the prepared image to the grid on which classes are decided."""
        ...

    def restore_mask(self, mask: np.ndarray, /) -> np.ndarray:
        """Put a mask of that grid on the grid of the original image."""
        ...


class WholeRows:
    """Collects the logits of a mask row by row; `mask` resamples them and decides the class of every voxel.

    Args:
        image: the prepared image.
        threshold: see `cphloc.data.pipeline.slabs.class_mask`.
        regions: the logits are those of `cphloc.ops.regions.region_pairs`.
    """

    def __init__(self, image: WholeImage, threshold: float | None = None, regions: bool = False) -> None:
        self.image, self.threshold, self.regions = image, threshold, regions
        self.logits = image.resamples == "logits"
        self.rows: list[np.ndarray] = []

    def add_rows(self, first: int, logits: Tensor) -> None:
        """Add the next rows of logits ``(K + 1, rows, *S[1:])``, which the caller overwrites."""
        kept = region_logits(logits).float() if self.regions else logits.float()
        if not self.logits:
            kept = kept.sigmoid() if self.regions else kept.softmax(dim=0)
        self.rows.append(kept.cpu().numpy().copy())

    def mask(self) -> np.ndarray:
        """Return the class mask ``(*S)`` uint8 on the grid of the original image."""
        scores = torch.from_numpy(self.image.restored(np.concatenate(self.rows, axis=1)))
        if self.regions:
            least = torch.tensor(0.5 if self.threshold is None else self.threshold)
            return self.image.restore_mask(painted(scores - (least.logit() if self.logits else least)).numpy())
        values = scores.softmax(dim=0) if self.logits and self.threshold is not None else scores
        return self.image.restore_mask(class_mask(values.numpy(), self.threshold))
