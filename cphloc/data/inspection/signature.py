"""Small averages of an image, the same however it is stored: to find near-duplicates and inverted images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FINE = {2: 48, 3: 24}
"""Number of axes -> cells per axis of the details."""
_COARSE = 8
"""Cells per axis of the coarse signature."""
_LEAST_CONTRAST = 0.3
"""Part of the contrast of the whole image that is added to the local one, so that noise in air counts little."""


@dataclass(frozen=True)
class Signature:
    """Averages of an image over a grid of cells, with mean 0 and length 1; zeros for a constant image.

    Args:
        detail: ``(*S)`` float16, fine cells minus the mean of their neighbours, divided by the local contrast: details
            such as texture, which images of two patients do not share, count as much as the edge of the body, which
            they do.
        coarse: ``(m,)`` float32 coarse cells.
    """

    detail: np.ndarray
    coarse: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> Signature:
        """Compute the signature of an image ``(*S)`` in canonical orientation."""
        from scipy import ndimage

        low, high = np.percentile(image.ravel()[:: max(1, image.size // 100_000)], (0.5, 99.5))
        fine = averaged(np.clip(image, low, high), _FINE[image.ndim])
        detail = fine - ndimage.uniform_filter(fine, 3, mode="nearest")
        contrast = np.sqrt(np.abs(ndimage.uniform_filter(detail * detail, 5, mode="nearest")))
        detail = detail / np.maximum(contrast + _LEAST_CONTRAST * detail.std(), 1e-6)
        return cls(_unit(detail).astype(np.float16), _unit(averaged(fine, _COARSE)).ravel())


def averaged(image: np.ndarray, cells: int) -> np.ndarray:
    """Average an image over ``cells`` equal parts along each axis; a shorter axis is sampled.

    >>> averaged(np.arange(16.0).reshape(4, 4), 2).tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    for axis, n in enumerate(image.shape):
        edges = np.arange(cells) * n // cells
        if n < cells:
            image = np.take(image, edges, axis)
            continue
        counts = np.diff([*edges, n]).reshape([-1 if a == axis else 1 for a in range(image.ndim)])
        image = np.add.reduceat(image, edges, axis, dtype=np.float32) / counts.astype(np.float32)
    return image


def _unit(values: np.ndarray) -> np.ndarray:
    """Subtract the mean and divide by the length."""
    centred = values.astype(np.float32) - np.float32(values.mean())
    length = float(np.linalg.norm(centred))
    return centred / length if length > 1e-6 else np.zeros_like(centred)
