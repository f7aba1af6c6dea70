"""Hausdorff distance, average surface distance and normalised surface Dice of two masks.

The surface of a mask has two common definitions that give different values; report which one was used.

- ``border`` (default; MetricsReloaded, MONAI): the centres of the foreground voxels that share a face with a background
  voxel or with the edge of the image. All points have equal weight; percentiles are interpolated linearly.
- ``area`` (DeepMind's surface-distance): the voxel corners with foreground and background around them, each weighted by
  the area (2-D: length) of the marching-cubes surface in its neighbourhood; percentiles are weighted by area, without
  interpolation. The norm of the vector area is used, which is exact for flat pieces and slightly too small for bent
  ones.

Nearest neighbours are searched once for all metrics of a pair of masks: first in the grid around each point, which
suffices for most points of a good prediction, then with a k-d tree for the others.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import KDTree

from cphloc.errors import InputError
from cphloc.metrics.recommended import NSD_TOLERANCE_MM
from cphloc.metrics.segmentation import EmptyPolicy, bounding_box, connected_components, foreground, when_both_empty
from cphloc.paths import compiled

Surface = Literal["border", "area"]
"""Definition of the surface of a mask: ``border`` or ``area``, see `cphloc.metrics.surface`."""


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm between the surfaces of two masks; result of `surface_distances`.

    If both masks are empty, every metric follows ``empty_policy``; if one is, distances are ``diagonal_mm`` and the
    surface Dice is 0.

    Args:
        to_reference: ``(n,)`` distance from each point of the predicted surface to the nearest reference point.
        to_prediction: ``(m,)`` distance from each point of the reference surface to the nearest predicted point.
        predicted_areas: ``(n,)`` weights of the points of the predicted surface; ``None`` for equal weights.
        reference_areas: ``(m,)`` weights of the points of the reference surface; ``None`` for equal weights.
        diagonal_mm: diagonal of the image, the largest possible distance.
        empty_policy: score if both masks are empty, as in `cphloc.metrics.segmentation`.
    """

    to_reference: np.ndarray
    to_prediction: np.ndarray
    predicted_areas: np.ndarray | None
    reference_areas: np.ndarray | None
    diagonal_mm: float
    empty_policy: EmptyPolicy = "nan"

    def hausdorff(self, percentile: float = 95.0) -> float:
        """Compute the larger of the two directed percentiles of the distances, in mm.

        Args:
            percentile: in [0, 100]; 95 gives HD95, 100 the Hausdorff distance.
        """
        if (score := self._when_empty(best=0.0, worst=self.diagonal_mm)) is not None:
            return score
        return max(
            _percentile(self.to_reference, self.predicted_areas, percentile),
            _percentile(self.to_prediction, self.reference_areas, percentile),
        )

    def average(self) -> float:
        """Compute the average symmetric surface distance in mm: the mean over the points of both surfaces."""
        if (score := self._when_empty(best=0.0, worst=self.diagonal_mm)) is not None:
            return score
        return float(np.average(self._both, weights=self._both_areas))

    def dice(self, tolerance_mm: float = NSD_TOLERANCE_MM) -> float:
        """Compute the normalised surface Dice: the fraction of both surfaces within ``tolerance_mm`` of the other one.

        Source: Nikolov et al., 2018.
        """
        if (score := self._when_empty(best=1.0, worst=0.0)) is not None:
            return score
        return float(np.average(self._both <= tolerance_mm, weights=self._both_areas))

    @property
    def _both(self) -> np.ndarray:
        return np.concatenate([self.to_reference, self.to_prediction])

    @property
    def _both_areas(self) -> np.ndarray | None:
        if self.predicted_areas is None or self.reference_areas is None:
            return None
        return np.concatenate([self.predicted_areas, self.reference_areas])

    def _when_empty(self, best: float, worst: float) -> float | None:
        if len(self.to_reference) and len(self.to_prediction):
            return None
        if len(self.to_reference) or len(self.to_prediction):
            return worst
        return when_both_empty(self.empty_policy, best, worst)


def surface_distances(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: tuple[float, ...],
    label: int = 1,
    surface: Surface = "border",
    empty_policy: EmptyPolicy = "nan",
) -> SurfaceDistances:
    """Measure the distances between the surfaces of class ``label`` in two masks ``(*S)``.

    Args:
        prediction: predicted class mask or bool mask.
        reference: reference class mask or bool mask; its voxels of value 255 (not annotated) are background in both.
        spacing_mm: voxel size per axis, array order.
        label: value of the class in the masks.
        surface: definition of the surface, ``border`` or ``area``.
        empty_policy: score if both masks are empty.

    Raises:
        InputError: the shapes differ, the spacing has another number of axes, or an unknown definition.

    >>> left, right = np.zeros((2, 8, 8), bool)
    >>> left[4, 2], right[4, 4] = True, True
    >>> surface_distances(left, right, spacing_mm=(1.0, 3.0)).hausdorff(95)
    6.0
    """
    predicted, annotated = foreground(prediction, reference, label)
    if len(spacing_mm) != predicted.ndim:
        msg = f"spacing_mm needs one value per axis of a {predicted.ndim}-D mask, got {tuple(spacing_mm)}"
        raise InputError(msg)
    if surface not in _POINTS:
        msg = f"surface must be one of {', '.join(_POINTS)}; got {surface!r}"
        raise InputError(msg)
    diagonal_mm = math.hypot(*(n * s for n, s in zip(predicted.shape, spacing_mm, strict=True)))
    window = bounding_box(predicted | annotated)
    predicted_points, predicted_areas = _POINTS[surface](predicted[window], spacing_mm)
    reference_points, reference_areas = _POINTS[surface](annotated[window], spacing_mm)
    return SurfaceDistances(
        _distances(predicted_points, reference_points, spacing_mm),
        _distances(reference_points, predicted_points, spacing_mm),
        predicted_areas,
        reference_areas,
        diagonal_mm,
        empty_policy,
    )


def _border(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, None]:
    """Bool mask ``(*S)`` of the foreground voxels with a background voxel behind one of their faces; no weights."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            beside = [slice(1, -1)] * mask.ndim
            beside[axis] = slice(start, start + mask.shape[axis])
            inside &= padded[tuple(beside)]
    return mask & ~inside, None


def _corners(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Bool mask of the voxel corners on the surface, one more than voxels per axis, and the area at each of them."""
    padded = np.pad(mask, 1).astype(np.uint8)
    code = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for bit, corner in enumerate(np.ndindex((2,) * mask.ndim)):
        code |= padded[tuple(slice(c, c + n) for c, n in zip(corner, code.shape, strict=True))] << bit
    areas = _areas(tuple(map(float, spacing_mm)))[code]
    on_surface = areas > 0
    return on_surface, areas[on_surface]


_POINTS = {"border": _border, "area": _corners}
_COVERED = ((0.0, 1.0), (0.0, 1 / 2, 1.0), (0.0, 1 / 8, 1 / 2, 7 / 8, 1.0))
"""Fraction of a cell's face inside the marching-cubes surface, by dimension of the face and number of inner corners."""


@functools.lru_cache
def _areas(spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Surface area inside a cell for each of the 2^(2^D) combinations of its corners inside or outside the mask.

    The smaller of both sets of corners is split into parts connected by edges. The surface of a part and the portions
    of the cell's faces that it covers enclose a volume, so the vector area of the surface is minus the sum of the
    vector areas of the covered portions (divergence theorem), independent of the triangulation.
    """
    dims = len(spacing_mm)
    faces = np.prod(spacing_mm) / np.asarray(spacing_mm)
    areas = np.zeros(2 ** (2**dims))
    for code in range(len(areas)):
        inside = np.array([code >> bit & 1 for bit in range(2**dims)], bool).reshape((2,) * dims)
        smaller = inside if inside.sum() <= inside.size // 2 else ~inside
        parts, count = connected_components(smaller, diagonal=False)
        for part in range(1, count + 1):
            corners = [np.moveaxis(parts == part, axis, 0).reshape(2, -1).sum(axis=1) for axis in range(dims)]
            covered = [_COVERED[dims - 1][low] - _COVERED[dims - 1][high] for low, high in corners]
            areas[code] += np.linalg.norm(covered * faces)
    return areas


def _distances(points: np.ndarray, others: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Distance in mm from each true voxel of ``points`` to the nearest one of ``others``; infinite if it has none."""
    offsets, offsets_mm = _offsets(tuple(map(float, spacing_mm)))
    others = np.pad(others, _REACH)
    strides = np.cumprod((1, *others.shape[:0:-1]))[::-1]
    positions = np.argwhere(points)
    distances = _nearest_in_grid((positions + _REACH) @ strides, others.ravel(), offsets @ strides, offsets_mm)
    far = np.isinf(distances)
    if far.any() and others.any():
        tree = KDTree((np.argwhere(others) - _REACH) * spacing_mm, leafsize=32, balanced_tree=False)
        distances[far] = tree.query(positions[far] * spacing_mm)[0]
    return distances


_REACH = 5
"""Number of voxels per axis and direction to search in the grid; farther out a k-d tree is as fast."""


@functools.lru_cache
def _offsets(spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets to neighbouring voxels and their distances in mm, ascending; all those that `_REACH` covers fully."""
    steps = np.array(list(np.ndindex((2 * _REACH + 1,) * len(spacing_mm)))) - _REACH
    steps_mm = np.linalg.norm(steps * spacing_mm, axis=1)
    order = np.argsort(steps_mm, kind="stable")
    order = order[steps_mm[order] < (_REACH + 1) * min(spacing_mm)]
    return steps[order], steps_mm[order]


@compiled()
def _nearest_in_grid(
    positions: np.ndarray, others: np.ndarray, offsets: np.ndarray, offsets_mm: np.ndarray
) -> np.ndarray:
    """Distance from each flat position to the nearest true voxel of ``others`` within ``offsets``; else infinite."""
    distances = np.full(len(positions), np.inf)
    for i in range(len(positions)):
        for j in range(len(offsets)):
            if others[positions[i] + offsets[j]]:
                distances[i] = offsets_mm[j]
                break
    return distances


def _percentile(distances: np.ndarray, areas: np.ndarray | None, percentile: float) -> float:
    if areas is None:
        return float(np.percentile(distances, percentile))
    order = np.argsort(distances)
    share = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(np.searchsorted(share, percentile / 100), len(order) - 1)])
