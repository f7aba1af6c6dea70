"""Prepare images and restore results exactly as MONAI's transforms do, for models with imported weights.

The whole image is held in memory. Reference: Cardoso et al. 2022, MONAI, arXiv:2211.02701; its ``Orientation``,
``Spacing`` and ``Invert``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.data.pipeline.whole import WholeRows
from cphloc.structures.geometry import Geometry
from cphloc.structures.monai_steps import MonaiSteps
from cphloc.structures.volume import Volume, reoriented, reoriented_back

_CANONICAL = {"S": 0, "I": 0, "P": 1, "A": 1, "L": 2, "R": 2}
"""Direction -> axis of the canonical image, which grows towards S, P and L."""


@dataclass(frozen=True, eq=False)
class MonaiPreprocess(Preprocess):
    """Preparation as MONAI does it.

    Args:
        steps: see `MonaiSteps`.
        patch: size of a window; smaller images are padded with 0 on both sides. ``None``: no windows.
    """

    steps: MonaiSteps = field(kw_only=True)
    patch: tuple[int, ...] | None = field(kw_only=True)


class MonaiImage:
    """A whole image, prepared as MONAI does it; ``image[:, :, first:stop]`` returns rows of it.

    Args:
        preprocess: the preparation.
        volume: the original image.

    Raises:
        DataError: the image has another number of axes or channels, or no physical size although one is needed.
    """

    resamples: Literal["logits", "probabilities"] = "probabilities"

    def __init__(self, preprocess: MonaiPreprocess, volume: Volume) -> None:
        self.volume, steps = volume, preprocess.steps
        preprocess.frame(volume.geometry, volume.source)  # checks axes, physical size and memory
        self.order, self.flip = axes_towards(volume.geometry, steps.axcodes)
        grid = volume.geometry.reoriented(self.order, self.flip)
        spacing = preprocess.spacing_mm or grid.spacing_mm
        self.own, shape = grid.shape, spaced(grid.shape, grid.spacing_mm, spacing)
        self.steps = tuple(t / s for s, t in zip(grid.spacing_mm, spacing, strict=True))
        resampled = replace(grid, shape=shape, spacing_mm=tuple(spacing))
        array = volume.array if steps.scaled == "after" else preprocess.scaled(volume)
        array = linear(reoriented(array, self.order, self.flip), shape, self.steps)
        if steps.scaled == "after":
            array = preprocess.scaled(replace(volume, array=array, geometry=resampled))
        missing = [max(p - n, 0) for p, n in zip(preprocess.patch or shape, shape, strict=True)]
        self.inner = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, shape, strict=True))
        padded = np.pad(array.astype(np.float32), [(0, 0), *((m // 2, m - m // 2) for m in missing)])
        self.whole = torch.from_numpy(np.ascontiguousarray(padded))[None]
        self.shape = tuple(self.whole.shape)
        self.geometry = resampled.crop(tuple(-(m // 2) for m in missing), tuple(self.whole.shape[2:]))

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Tensor:
        """Return rows ``(1, C, rows, *S[1:])`` float32."""
        return self.whole[key]

    def mask_rows(self, threshold: float | None = None, regions: bool = False) -> WholeRows:
        """Return a collector of the logits of a mask, see `WholeRows`."""
        return WholeRows(self, threshold, regions)

    def restored(self, probabilities: np.ndarray) -> np.ndarray:
        """Resample probabilities ``(K, *S)`` of the prepared image to the reoriented image."""
        return linear(probabilities[:, *self.inner], self.own, [1 / step for step in self.steps])

    def restore(self, probabilities: np.ndarray) -> np.ndarray:
        """Resample class probabilities ``(K + 1, *S)`` of the prepared image to the original grid."""
        found = self.restored(probabilities)
        return np.ascontiguousarray(reoriented_back(found, self.order, self.flip), np.float32)

    def restore_mask(self, mask: np.ndarray) -> np.ndarray:
        """Turn a mask of the reoriented image to the original grid."""
        return np.ascontiguousarray(reoriented_back(mask, self.order, self.flip))


def axes_towards(geometry: Geometry, axcodes: str | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the order and the flips of the axes of an image, as `Geometry.reoriented` takes them.

    Args:
        geometry: grid of the image, with axes z, y, x.
        axcodes: direction of each axis of the result, such as RAS; ``None`` for x, y, z as in the file.
    """
    if axcodes is None:
        return tuple(reversed(range(geometry.dims))), ()
    order, mirrored = geometry.canonical()
    axes = [_CANONICAL[code] for code in axcodes]
    flip = tuple(k for k, code in enumerate(axcodes) if (axes[k] in mirrored) != (code in "RAI"))
    return tuple(order[axis] for axis in axes), flip


def spaced(shape: Sequence[int], before: Sequence[float], after: Sequence[float]) -> tuple[int, ...]:
    """Return the shape for another voxel size, where the first voxel keeps its place.

    >>> spaced((6, 10), (4.0, 1.0), (2.0, 1.0))
    (11, 10)
    """
    return tuple(round((n - 1) * s / t + 1) for n, s, t in zip(shape, before, after, strict=True))


def linear(channels: np.ndarray, shape: Sequence[int], steps: Sequence[float]) -> np.ndarray:
    """Resample ``(C, *S)`` linearly at every ``steps`` voxels from the first on; beyond the last, its value.

    >>> linear(np.array([[0.0, 1.0, 2.0]]), (5,), (0.5,)).tolist()
    [[0.0, 0.5, 1.0, 1.5, 2.0]]
    """
    result = channels
    for axis, (n, step) in enumerate(zip(shape, steps, strict=True), start=1):
        if result.shape[axis] == n and step == 1:
            continue
        last = result.shape[axis] - 1
        at = np.clip(np.arange(n) * step, 0, last)
        low = np.minimum(np.floor(at).astype(int), max(last - 1, 0))
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(result.ndim)])
        first, second = (np.take(result, np.minimum(i, last), axis=axis).astype(np.float64) for i in (low, low + 1))
        result = first * (1 - share) + second * share
    return result
