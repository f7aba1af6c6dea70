"""Prepare images and restore results exactly as nnU-Net does, for models with imported weights.

The whole image is held in memory: cubic splines and the crop to the nonzero voxels depend on all of it.

Reference: Isensee et al. 2021, nnU-Net, doi 10.1038/s41592-020-01008-z; code: nnunetv2, ``DefaultPreprocessor`` and
``convert_predicted_logits_to_segmentation_with_correct_shape``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cphloc.data.pipeline.intensity_of_image import ZScoreNonzero, nonzero
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.data.pipeline.whole import WholeRows
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.nnunet_steps import NnUNetSteps
from cphloc.structures.volume import Volume, reoriented, reoriented_back

ANISOTROPIC = 3
"""An axis whose voxels are more than this times larger than others is resampled by nearest neighbour."""


@dataclass(frozen=True, eq=False)
class NnUNetPreprocess(Preprocess):
    """Preparation as nnU-Net does it.

    Args:
        steps: see `NnUNetSteps`.
        patch: size of a window; smaller images are padded with 0 on both sides.
    """

    steps: NnUNetSteps = field(kw_only=True)
    patch: tuple[int, ...] = field(kw_only=True)


class NnUNetImage:
    """A whole image, prepared as nnU-Net does it; ``image[:, :, first:stop]`` returns rows of it.

    Args:
        preprocess: the preparation.
        volume: the original image.

    Raises:
        DataError: the image has another number of axes or channels, or no physical size although one is needed.
    """

    resamples: Literal["logits", "probabilities"] = "logits"

    def __init__(self, preprocess: NnUNetPreprocess, volume: Volume) -> None:
        self.preprocess, self.volume = preprocess, volume
        preprocess.frame(volume.geometry, volume.source)  # checks axes, physical size and memory
        self.order, self.flip = axes_of(volume.geometry, preprocess.steps)
        channels = reoriented(volume.array, self.order, self.flip).astype(np.float32)
        grid = volume.geometry.reoriented(self.order, self.flip)
        self.whole_shape = grid.shape
        inside = _filled(channels)
        self.box = _box(inside)
        channels, grid = channels[:, *self.box], grid.crop(tuple(s.start for s in self.box), _lengths(self.box))
        self.cropped = grid
        spacing = _target_spacing(grid, preprocess)
        shape = tuple(round(s / t * n) for s, t, n in zip(grid.spacing_mm, spacing, grid.shape, strict=True))
        self.spacing = spacing
        ready = self._scaled(channels, inside[self.box], volume)
        ready = resized(ready, shape, self._separate_axis(grid.spacing_mm, spacing), preprocess.steps.image_order)
        missing = [max(p - n, 0) for p, n in zip(preprocess.patch, shape, strict=True)]
        self.inner = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, shape, strict=True))
        self.whole = torch.from_numpy(np.pad(ready, [(0, 0), *((m // 2, m - m // 2) for m in missing)]))[None]
        self.shape = tuple(self.whole.shape)
        self.geometry = _over(grid, shape).crop(tuple(-(m // 2) for m in missing), tuple(self.whole.shape[2:]))

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Tensor:
        """Return rows ``(1, C, rows, *S[1:])`` float32."""
        return self.whole[key]

    def mask_rows(self, threshold: float | None = None, regions: bool = False) -> WholeRows:
        """Return a collector of the logits of a mask, see `WholeRows`."""
        return WholeRows(self, threshold, regions)

    def restore(self, probabilities: np.ndarray) -> np.ndarray:
        """Resample class probabilities ``(K + 1, *S)`` of the prepared image to the original grid."""
        logs = np.log(np.maximum(probabilities, 1e-30))
        inside = torch.from_numpy(self.restored(logs)).softmax(dim=0).numpy()
        whole = np.zeros((len(inside), *self.whole_shape), np.float32)
        whole[0] = 1
        whole[:, *self.box] = inside
        return np.ascontiguousarray(reoriented_back(whole, self.order, self.flip))

    def restored(self, logits: np.ndarray) -> np.ndarray:
        """Resample logits ``(K, *S)`` of the prepared image to the cropped image ``(K, *cropped)``."""
        own = self.cropped
        axis = self._separate_axis(self.spacing, own.spacing_mm)
        return resized(logits[:, *self.inner], own.shape, axis, self.preprocess.steps.result_order)

    def restore_mask(self, inside: np.ndarray) -> np.ndarray:
        """Put a mask of the cropped image into one of the original grid; the rest is background."""
        mask = np.zeros(self.whole_shape, np.uint8)
        mask[self.box] = inside
        return np.ascontiguousarray(reoriented_back(mask, self.order, self.flip))

    def _scaled(self, channels: np.ndarray, inside: np.ndarray, volume: Volume) -> np.ndarray:
        schemes = self.preprocess.intensity
        if len(channels) != len(schemes):
            msg = f"{volume.source}: has {len(channels)} channels but the model takes {len(schemes)}"
            raise DataError(f"{msg}; pass a list of images")
        return np.stack(
            [
                scheme.within(channel, inside) if isinstance(scheme, ZScoreNonzero) else scheme(channel, volume.window)
                for scheme, channel in zip(schemes, channels, strict=True)
            ]
        )

    def _separate_axis(self, before: Sequence[float], after: Sequence[float]) -> int | None:
        """Return the axis to resample by nearest neighbour, if any."""
        if self.preprocess.dims == 2 or self.preprocess.steps.separate is False:
            return None
        candidates = [before] if self.preprocess.steps.separate else [before, after]
        for spacing in candidates:
            if self.preprocess.steps.separate or max(spacing) / min(spacing) > ANISOTROPIC:
                largest = [axis for axis, s in enumerate(spacing) if max(spacing) / s == 1]
                return largest[0] if len(largest) == 1 else None
        return None


def axes_of(geometry: Geometry, steps: NnUNetSteps) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the order and the flips of the axes of an image, as `Geometry.reoriented` takes them."""
    order, flip = tuple(range(geometry.dims)), ()
    if steps.orientation == "RAS":  # canonical axes grow towards the head, the back and the left
        order, mirrored = geometry.canonical()
        flip = tuple(a for a in range(geometry.dims) if (a in mirrored) != (a >= geometry.dims - 2))
    moved = tuple(order[a] for a in steps.axes)
    return moved, tuple(k for k, a in enumerate(steps.axes) if a in flip)


def resized(channels: np.ndarray, shape: Sequence[int], separate: int | None, order: int) -> np.ndarray:
    """Resample channels ``(C, *S)`` to a shape by splines without smoothing, voxel edges aligned; values stay in range.

    Args:
        channels: the channels.
        shape: new ``(*S)``.
        separate: axis that is resampled by nearest neighbour, slice by slice; ``None``: none.
        order: of the splines.
    """
    if channels.shape[1:] == tuple(shape):
        return channels
    return np.stack([_resized(c.astype(np.float64), tuple(shape), separate, order) for c in channels]).astype(
        np.float32
    )


def _resized(values: np.ndarray, shape: tuple[int, ...], separate: int | None, order: int) -> np.ndarray:
    if separate is None:
        return _spline(values, shape, order)
    within = shape[:separate] + shape[separate + 1 :]
    slices = np.stack([_spline(s, within, order) for s in np.moveaxis(values, separate, 0)])
    count, wanted = len(slices), shape[separate]
    centres = count / wanted * (np.arange(wanted) + 0.5) - 0.5
    nearest = np.floor(centres + 0.5).astype(int).clip(0, count - 1)
    return np.moveaxis(slices[nearest], 0, separate)


def _spline(values: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """Resample as ``skimage.transform.resize`` does with ``mode="edge"`` and without anti-aliasing."""
    from scipy import ndimage

    factors = [1 / (n / m) for n, m in zip(values.shape, shape, strict=True)]
    result = np.asarray(ndimage.zoom(values, factors, order=order, mode="nearest", grid_mode=True))
    return np.clip(result, values.min(), values.max())


def _filled(channels: np.ndarray) -> np.ndarray:
    """Voxels that are not 0, with holes filled; nnU-Net takes a picture as a volume of one slice, without holes."""
    return nonzero(channels) if channels.ndim == 4 else nonzero(channels[:, None])[0]


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box around a mask; the whole image for an empty one."""
    if not mask.any():
        return tuple(slice(0, n) for n in mask.shape)
    found = [np.flatnonzero(mask.any(axis=tuple(b for b in range(mask.ndim) if b != a))) for a in range(mask.ndim)]
    return tuple(slice(int(f[0]), int(f[-1]) + 1) for f in found)


def _lengths(box: tuple[slice, ...]) -> tuple[int, ...]:
    return tuple(s.stop - s.start for s in box)


def _target_spacing(grid: Geometry, preprocess: NnUNetPreprocess) -> tuple[float, ...]:
    """Voxel size to resample to: that of the image along the axes that keep theirs."""
    own, wanted = grid.spacing_mm, preprocess.spacing_mm or grid.spacing_mm
    return tuple(s if axis in preprocess.steps.kept else w for axis, (s, w) in enumerate(zip(own, wanted, strict=True)))


def _over(grid: Geometry, shape: tuple[int, ...]) -> Geometry:
    """Grid of a shape over the same field of view."""
    return grid.resampled(tuple(n * s / m for n, s, m in zip(grid.shape, grid.spacing_mm, shape, strict=True)))
