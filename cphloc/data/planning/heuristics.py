"""Choose spacing, patch and network topology for a data set by the rules of nnU-Net.

Isensee et al. 2021, Nature Methods 18:203, doi 10.1038/s41592-020-01008-z.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

ANISOTROPY = 3.0
"""Ratio of spacings, and of sizes, above which an axis is treated as anisotropic (thick slices)."""
SMALLEST_MAP = 4
"""Minimum size of a feature map after downsampling, in voxels per axis."""


@dataclass(frozen=True)
class Topology:
    """Patch size and stages of an encoder, fine to coarse.

    Args:
        patch: input size in voxels, a multiple of the product of all strides.
        strides: per stage and axis, relative to the stage before.
        kernels: kernel sizes per stage and axis.
    """

    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]

    @property
    def pools(self) -> tuple[int, ...]:
        """Number of downsampling steps by 2 per axis."""
        return tuple(int(n) for n in np.log2(np.prod(self.strides, axis=0)).round())


def target_spacing(spacings_mm: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Choose the spacing to resample to: the median per axis, or the 10th percentile for an axis of thick slices.

    An axis has thick slices where its median spacing is more than 3 times that of all others and its median size less
    than a third of theirs.

    Args:
        spacings_mm: spacing of each case, array order.
        shapes: size of each case in voxels.

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
    """Choose strides and kernels for a patch, which is padded to a multiple of the product of all strides.

    Axes are halved while their maps stay at least 4 large and their spacing is below twice the finest one; kernels
    are 1 along an axis until its spacing is below twice the finest one, and 3 at the coarsest stage.

    Args:
        spacing_mm: voxel size per axis.
        patch: size in voxels per axis.

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


def plan_patch(
    spacing_mm: Sequence[float],
    shape: Sequence[float],
    fits: Callable[[Topology], bool],
    stages: Callable[[Sequence[float], Sequence[int]], Topology] = topology,
) -> Topology:
    """Choose the largest patch that ``fits``: a cube in mm, shortened along axes where the images are smaller.

    While it does not fit, it is reduced along the axis on which it is largest relative to the images.

    Args:
        spacing_mm: spacing of the resampled images.
        shape: their median size in voxels.
        fits: whether a patch and its network are small enough.
        stages: chooses the network of a spacing and a patch.

    Returns:
        the patch with its strides and kernels.
    """
    spacing, size = np.asarray(spacing_mm, float), np.asarray(shape, float)
    side = 256.0 if len(size) == 3 else 2048.0
    cube = side * np.exp(np.log(spacing).mean()) / spacing
    largest = np.maximum(1, np.minimum(np.rint(cube), size)).astype(int)
    chosen = stages(spacing_mm, largest.tolist())
    while not fits(chosen):
        patch, step = np.asarray(chosen.patch), np.prod(chosen.strides, axis=0)
        reducible = patch - step >= step
        if not reducible.any():
            break
        axis = int(np.argmax(np.where(reducible, patch / size, -1)))
        patch[axis] -= step[axis]
        chosen = stages(spacing_mm, patch.tolist())
    return chosen


def stage_widths(stages: int, width: int, dims: int) -> list[int]:
    """Channels of each stage: ``width``, doubled with each stage up to 320 in 3-D and 512 in 2-D.

    >>> stage_widths(6, 32, 3)
    [32, 64, 128, 256, 320, 320]
    """
    return [min(width * 2**stage, 320 if dims == 3 else 512) for stage in range(stages)]


def training_mb(chosen: Topology, width: int, convolutions: Sequence[int] | None = None) -> float:
    """Estimate the memory in MB that the feature maps of one patch take in a training step of a U-Net in float32.

    Each convolution keeps its output and that of its normalization for the gradients; the decoder has as many as the
    encoder, and concatenates the maps of both.

    Args:
        chosen: patch and stages.
        width: channels of the first stage.
        convolutions: convolutions of each stage of the encoder; default 2.
    """
    widths = stage_widths(len(chosen.strides), width, len(chosen.patch))
    sizes = np.prod(np.asarray(chosen.patch) / np.cumprod(chosen.strides, axis=0), axis=1)
    maps = widths * sizes
    encoder = _KEPT * (maps * (convolutions or [2] * len(maps))).sum()
    decoder = (2 * _KEPT + _CONCATENATED) * maps[:-1].sum()
    return 4 * float(encoder + decoder) / 1e6


_KEPT = 2
"""Tensors that each convolution with its normalization and activation keeps for the gradients."""
_CONCATENATED = 3
"""Maps of the width of a level that up-sampling and concatenation add to it."""


def _axes_to_halve(spacing: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Bool per axis: which to halve next. A single axis is halved only from three times `SMALLEST_MAP` on."""
    large = size >= 2 * SMALLEST_MAP
    if not large.any():
        return large
    axes = large & (spacing < 2 * spacing[large].min())
    return axes & (axes.sum() > 1 or (size >= 3 * SMALLEST_MAP))
