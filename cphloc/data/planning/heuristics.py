"""nnU-Net's published rules: spacing, patch and network topology from what a data set looks like.

Isensee et al. 2021, Nature Methods 18:203, doi 10.1038/s41592-020-01008-z. The rules are the paper's; the limit on a
patch is a number of voxels here, where nnU-Net estimates the memory of a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ANISOTROPY = 3.0
SMALLEST_MAP = 4
"""Feature maps are not pooled below this size."""


@dataclass(frozen=True)
class Topology:
    """Stages of an encoder, fine to coarse.

    Args:
        patch: size of the input, a multiple of the whole stride.
        strides: of each stage relative to the one before, per axis.
        kernels: of each stage, per axis.
    """

    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]

    @property
    def pools(self) -> tuple[int, ...]:
        """How often each axis is halved."""
        return tuple(int(n) for n in np.log2(np.prod(self.strides, axis=0)).round())


def target_spacing(spacings_mm: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Spacing to resample to: the median of each axis; the 10th percentile of an axis of thick slices.

    An axis has thick slices where its median spacing is over 3 times that of all others and its median size below a
    third of theirs.

    >>> target_spacing([[5, 1, 1], [3, 1, 1], [1, 1, 1]], [[20, 256, 256]] * 3)
    (3.0, 1.0, 1.0)
    """
    spacing, size = np.median(spacings_mm, axis=0), np.median(shapes, axis=0)
    worst = int(np.argmax(spacing))
    others = [axis for axis in range(len(spacing)) if axis != worst]
    if spacing[worst] > ANISOTROPY * max(spacing[others]) and size[worst] * ANISOTROPY < min(size[others]):
        lowest = np.percentile(np.asarray(spacings_mm)[:, worst], 10)
        spacing[worst] = max(lowest, max(spacing[others]))
    return tuple(float(s) for s in spacing)


def topology(spacing_mm: Sequence[float], patch: Sequence[int]) -> Topology:
    """Strides and kernels for a patch, which is padded to a multiple of the whole stride.

    Axes are halved while their maps stay at least 4 large and their spacing is below twice the finest one; kernels
    are 1 along an axis until its spacing is below twice the finest one, and 3 at the coarsest stage.

    >>> topology((5, 1.25, 1.25), (20, 256, 224)).pools
    (2, 5, 5)
    """
    spacing, size = np.asarray(spacing_mm, float), np.asarray(patch)
    strides, kernels = [(1,) * len(size)], []
    kernel = np.ones(len(size), int)
    while True:
        axes = _axes_to_halve(spacing, size)
        if not axes.any():
            break
        kernel[spacing < 2 * spacing.min()] = 3
        kernels.append(tuple(kernel.tolist()))
        factor = np.where(axes, 2, 1)
        strides.append(tuple(factor.tolist()))
        spacing, size = spacing * factor, -(-size // factor)
    kernels.append((3,) * len(size))
    whole = np.prod(strides, axis=0)
    padded = -(-np.asarray(patch) // whole) * whole
    return Topology(tuple(padded.tolist()), tuple(strides), tuple(kernels))


def plan_patch(spacing_mm: Sequence[float], shape: Sequence[int], voxels: int) -> Topology:
    """Topology of the largest patch of at most ``voxels``: as wide in mm along all axes as the images allow.

    Args:
        spacing_mm: of the resampled images.
        shape: their median size.
        voxels: most voxels of a patch.
    """
    spacing, shape = np.asarray(spacing_mm, float), np.asarray(shape, float)
    side = 256.0 if len(shape) == 3 else 2048.0
    cube = side * np.exp(np.log(spacing).mean()) / spacing
    found = topology(spacing, np.maximum(1, np.minimum(np.rint(cube), shape)).astype(int))
    while np.prod(found.patch) > voxels:
        patch, step = np.asarray(found.patch), np.prod(found.strides, axis=0)
        reducible = patch - step >= step
        if not reducible.any():
            break
        axis = int(np.argmax(np.where(reducible, patch / shape, -1)))
        patch[axis] -= step[axis]
        found = topology(spacing, patch)
    return found


def _axes_to_halve(spacing: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Bool per axis; an axis is not halved alone unless it is three times the smallest map."""
    large = size >= 2 * SMALLEST_MAP
    if not large.any():
        return large
    axes = large & (spacing < 2 * spacing[large].min())
    return axes & (axes.sum() > 1 or (size >= 3 * SMALLEST_MAP))
