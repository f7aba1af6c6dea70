"""Skip windows of CT that hold only air."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from cphloc.data.pipeline.intensity import CT
from cphloc.data.pipeline.nnunet import NnUNetPreprocess
from cphloc.data.pipeline.preprocess import Preprocess

AIR_HU = -700.0
"""Hounsfield units up to which a voxel is air; lung has similar values, but windows of lung also contain vessels."""

ROUNDING = 1e-4
"""Largest rounding error of resampling a constant image, in units of the model's input."""


@dataclass(frozen=True)
class AirThreshold:
    """Threshold between air and body; windows that contain only air can be skipped and become background.

    Args:
        channel: channel of the image to compare.
        limit: a voxel is air if its value in that channel is at most this.
    """

    channel: int
    limit: float

    def body_box(self, slab: Tensor, patch: Sequence[int]) -> list[tuple[int, int]]:
        """Find the smallest box, at least as large as ``patch``, that contains all voxels that are not air.

        Args:
            slab: ``(1, C, rows, *S)``.
            patch: smallest size of the box along ``S``.

        Returns:
            ``(first, one past the last)`` voxel along each axis of ``S``; an empty list if there is only air.
        """
        body = (slab[0, self.channel] > self.limit).any(dim=0)
        if not body.any():
            return []
        box = []
        for axis, (n, p) in enumerate(zip(body.shape, patch, strict=True)):
            inside = body.movedim(axis, 0).flatten(1).any(dim=1) if body.dim() > 1 else body
            first, last = inside.nonzero()[[0, -1], 0].tolist()
            first = max(0, min(first, (first + last + 1 - p) // 2, n - p))
            box.append((first, max(last + 1, first + p)))
        return box

    def is_air(self, window: Tensor) -> bool:
        """Return True if every voxel of the window ``(1, C, *patch)`` is air."""
        return bool(window[0, self.channel].amax() <= self.limit)


def air_threshold(preprocess: Preprocess) -> AirThreshold | None:
    """Return the threshold between air and body in the normalized values of a CT model.

    ``None`` for other models, and for those that predict as nnU-Net does, which skips nothing.
    """
    if isinstance(preprocess, NnUNetPreprocess):
        return None
    for channel, scheme in enumerate(preprocess.intensity):
        if isinstance(scheme, CT):
            return AirThreshold(channel, float(scheme(np.array([AIR_HU]))[0]) + ROUNDING)
    return None
