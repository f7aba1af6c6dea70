"""Resample images and label masks from one grid to another.

Voxels are matched by their world coordinates, so the grids may differ in spacing, axis order, direction and extent.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from cphloc.data.io.itk import to_itk
from cphloc.structures.geometry import Geometry

_TRUNCATE = 4.0
"""Radius of the Gaussian kernel, in standard deviations."""
_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


def resample(array: np.ndarray, geometry: Geometry, target: Geometry, outside: float = 0.0) -> np.ndarray:
    """Resample an image by linear interpolation, with Gaussian smoothing along downsampled axes to avoid aliasing.

    The smoothing adjusts the point spread function to the voxel size of the target: for a downsampling factor ``f``,
    ``sigma² = (f² - 1) / (8 ln 2)`` in source voxels (Cardoso et al., MICCAI 2015).

    Args:
        array: image ``(C, *S)``.
        geometry: grid of ``array``.
        target: grid to resample to.
        outside: value of target voxels outside ``geometry``.

    Returns:
        ``(C, *target.shape)`` float32; ``array`` itself where the grids are equal.
    """
    if geometry.same_grid(target):
        return array
    sigma = _antialias_sigma(geometry, target)
    return np.stack([_interpolate(_smooth(c, sigma), geometry, target, "linear", outside) for c in array])


def source_rows(geometry: Geometry, target: Geometry, first: int, stop: int) -> tuple[int, int]:
    """Return the range of source rows that `resample` needs to compute the target rows ``first`` to ``stop``.

    A row is an index along the first axis. The axes of both grids must be parallel.

    Args:
        geometry: grid of the image.
        target: grid to resample to.
        first: first row of the target.
        stop: one past the last row of the target.

    Returns:
        the first source row, and one past the last.

    >>> source_rows(Geometry.regular((10, 4)), Geometry.regular((20, 4), (0.5, 1.0)), 8, 12)
    (3, 8)
    """
    ends = np.full((2, geometry.dims), 0.5)
    ends[:, 0] += first, stop - 1
    rows = geometry.world_to_edges(target.edges_to_world(ends))[:, 0] - 0.5
    beside = 1 + (int(_TRUNCATE * _antialias_sigma(geometry, target)[0] + 0.5))
    return max(0, int(np.floor(rows[0])) - beside), min(geometry.shape[0], int(np.floor(rows[1])) + 2 + beside)


def resample_labels(
    mask: np.ndarray, geometry: Geometry, target: Geometry, method: Literal["linear", "nearest"] = "linear"
) -> np.ndarray:
    """Resample a label mask; the result contains only labels of ``mask``, and 0 outside its grid.

    Args:
        mask: label mask ``(*S)`` of integers.
        geometry: grid of ``mask``.
        target: grid to resample to.
        method: ``linear`` interpolates the one-hot mask of each label and takes the argmax, which keeps surfaces
            smooth; ``nearest`` takes the label of the nearest voxel.
    """
    if geometry.same_grid(target):
        return mask
    if method == "nearest":
        return _interpolate(mask, geometry, target, "nearest", 0)
    best = np.zeros(target.shape, mask.dtype)
    highest = _interpolate((mask == 0).astype(np.float32), geometry, target, "linear", 1.0)
    for label in np.unique(mask[mask != 0]):
        share = _interpolate((mask == label).astype(np.float32), geometry, target, "linear", 0.0)
        wins = share > highest
        best[wins], highest[wins] = label, share[wins]
    return best


def _antialias_sigma(geometry: Geometry, target: Geometry) -> tuple[float, ...]:
    """Standard deviation of the anti-aliasing filter per axis, in voxels of ``geometry``."""
    # Extent in mm of a target voxel along each source axis; oblique grids use the smallest target spacing.
    extent = np.abs(geometry.direction.T @ target.direction) @ np.asarray(target.spacing_mm)
    if not np.allclose(np.sort(np.abs(geometry.direction.T @ target.direction), axis=1)[:, -1], 1, atol=1e-3):
        extent = np.full(geometry.dims, min(target.spacing_mm))
    factor = np.maximum(extent / geometry.spacing_mm, 1.0)
    return tuple(np.sqrt(factor**2 - 1) / _FWHM_PER_SIGMA)


def _smooth(channel: np.ndarray, sigma: tuple[float, ...]) -> np.ndarray:
    from scipy import ndimage

    smooth = channel.astype(np.float32, copy=False)
    for axis, s in enumerate(sigma):
        if s > 0.1:
            smooth = ndimage.gaussian_filter1d(smooth, s, axis=axis, mode="nearest", truncate=_TRUNCATE)
    return smooth


def _interpolate(
    channel: np.ndarray, geometry: Geometry, target: Geometry, method: Literal["linear", "nearest"], outside: float
) -> np.ndarray:
    import SimpleITK as sitk

    interpolator = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}[method]
    reference = (
        target.shape[::-1],
        sitk.Transform(),
        interpolator,
        target.origin_mm,
        target.spacing_mm[::-1],
        target.direction[:, ::-1].ravel().tolist(),
        outside,
    )
    return sitk.GetArrayFromImage(sitk.Resample(to_itk(channel, geometry), *reference))
