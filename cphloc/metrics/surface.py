"""Distances between the surfaces of two masks: Hausdorff, average surface distance, normalised surface Dice.

The surface of a mask is defined in two ways, and their values differ; state which one you report.

- ``border`` (default; MetricsReloaded, MONAI): the centres of the mask's voxels that touch the outside by a face, as
  voxels at the image's edge do. Every voxel counts alike, percentiles are interpolated linearly.
- ``area`` (DeepMind's surface-distance): the voxel corners where mask and outside meet, each weighted by the area (2-D:
  length) of the marching-cubes surface around it; percentiles are of area, without interpolation. The area of a piece
  is that of its vector area, so it is exact where the piece is flat and slightly less where it is bent.

The nearest neighbours are searched once and serve all metrics of a pair of masks: nearby ones by walking outwards over
the grid, which settles nearly every point of a good prediction, the rest by a k-d tree.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from scipy.spatial import KDTree

from cphloc.errors import InputError
from cphloc.metrics.segmentation import EmptyPolicy, bounding_box, connected_components, foreground, when_both_empty

Surface = Literal["border", "area"]
"""What the surface of a mask is; see the module's text."""


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm between two surfaces; made by `surface_distances`.

    Where both masks are empty every metric follows ``empty_policy``; where one is, distances are ``diagonal_mm`` and
    the surface Dice is 0.

    Args:
        to_reference: ``(n,)`` from each point of the predicted surface to the nearest one of the reference.
        to_prediction: ``(m,)`` the other way.
        predicted_areas: ``(n,)`` weight of each point of the predicted surface, or ``None`` for equal weights.
        reference_areas: ``(m,)`` likewise.
        diagonal_mm: of the image, the worst distance.
        empty_policy: as in `cphloc.metrics.segmentation`.
    """

    to_reference: np.ndarray
    to_prediction: np.ndarray
    predicted_areas: np.ndarray | None
    reference_areas: np.ndarray | None
    diagonal_mm: float
    empty_policy: EmptyPolicy = "nan"

    def hausdorff(self, percentile: float = 95.0) -> float:
        """Larger of the two directed percentiles of distance in mm: 95 gives HD95, 100 the Hausdorff distance."""
        if (score := self._when_empty(best=0.0, worst=self.diagonal_mm)) is not None:
            return score
        return max(
            _percentile(self.to_reference, self.predicted_areas, percentile),
            _percentile(self.to_prediction, self.reference_areas, percentile),
        )

    def average(self) -> float:
        """Average symmetric surface distance in mm: mean over the points of both surfaces."""
        if (score := self._when_empty(best=0.0, worst=self.diagonal_mm)) is not None:
            return score
        return float(np.average(self._both, weights=self._both_areas))

    def dice(self, tolerance_mm: float = 1.0) -> float:
        """Normalised surface Dice: share of both surfaces that lies within ``tolerance_mm`` of the other.

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
        prediction: class mask or bool mask.
        reference: the same; voxels of value 255 count as empty in both.
        spacing_mm: voxel size per axis, array order.
        label: class to compare.
        surface: definition of the surface.
        empty_policy: score where both masks are empty.

    Raises:
        InputError: shapes or spacing do not fit, or an unknown definition.

    >>> left, right = np.zeros((2, 8, 8), bool)
    >>> left[4, 2], right[4, 4] = True, True
    >>> surface_distances(left, right, spacing_mm=(1.0, 3.0)).hausdorff(95)
    6.0
    """
    predicted, present = foreground(prediction, reference, label)
    if len(spacing_mm) != predicted.ndim:
        msg = f"spacing_mm needs one value per axis of a {predicted.ndim}-D mask, got {tuple(spacing_mm)}"
        raise InputError(msg)
    if surface not in _POINTS:
        msg = f"surface must be one of {', '.join(_POINTS)}; got {surface!r}"
        raise InputError(msg)
    diagonal_mm = math.hypot(*(n * s for n, s in zip(predicted.shape, spacing_mm, strict=True)))
    window = bounding_box(predicted | present)
    predicted_on, predicted_areas = _POINTS[surface](predicted[window], spacing_mm)
    present_on, present_areas = _POINTS[surface](present[window], spacing_mm)
    return SurfaceDistances(
        _distances(predicted_on, present_on, spacing_mm),
        _distances(present_on, predicted_on, spacing_mm),
        predicted_areas,
        present_areas,
        diagonal_mm,
        empty_policy,
    )


def _border(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, None]:
    """Where the mask has a face to the outside: bool ``(*S)``; every point counts alike."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            beside = [slice(1, -1)] * mask.ndim
            beside[axis] = slice(start, start + mask.shape[axis])
            inside &= padded[tuple(beside)]
    return mask & ~inside, None


def _corners(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where voxel corners lie on the surface: bool ``(*S + 1)``, and the area at each of them."""
    padded = np.pad(mask, 1).astype(np.uint8)
    code = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for bit, corner in enumerate(np.ndindex((2,) * mask.ndim)):
        code |= padded[tuple(slice(c, c + n) for c, n in zip(corner, code.shape, strict=True))] << bit
    areas = _areas(tuple(map(float, spacing_mm)))[code]
    on_surface = areas > 0
    return on_surface, areas[on_surface]


_POINTS = {"border": _border, "area": _corners}
_COVERED = ((0.0, 1.0), (0.0, 1 / 2, 1.0), (0.0, 1 / 8, 1 / 2, 7 / 8, 1.0))
"""By dimension of a cell's face: how much of it marching cubes covers when so many of its corners are inside."""


@functools.lru_cache
def _areas(spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Surface area inside a cell for each code of its 2^D corners.

    The smaller side is split into parts connected by edges. A part and the faces it covers enclose a volume, so the
    vector area of its surface is minus the sum of the covered faces' (divergence theorem), whatever its triangulation.
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
    """Distance in mm from each true voxel of ``points`` to the nearest of ``others``; infinite if there is none."""
    offsets, offsets_mm = _offsets(tuple(map(float, spacing_mm)))
    others = np.pad(others, _REACH)
    strides = np.cumprod((1, *others.shape[:0:-1]))[::-1]
    at = np.argwhere(points)
    distances = _walk((at + _REACH) @ strides, others.ravel(), offsets @ strides, offsets_mm)
    far = np.isinf(distances)
    if far.any() and others.any():
        tree = KDTree((np.argwhere(others) - _REACH) * spacing_mm, leafsize=32, balanced_tree=False)
        distances[far] = tree.query(at[far] * spacing_mm)[0]
    return distances


_REACH = 5
"""Voxels the walk goes outwards per axis. Farther out a k-d tree is as fast."""


@functools.lru_cache
def _offsets(spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Steps to the voxels around, nearest first, and their distances in mm; only those nearer than any left out."""
    steps = np.array(list(np.ndindex((2 * _REACH + 1,) * len(spacing_mm)))) - _REACH
    steps_mm = np.linalg.norm(steps * spacing_mm, axis=1)
    order = np.argsort(steps_mm, kind="stable")
    order = order[steps_mm[order] < (_REACH + 1) * min(spacing_mm)]
    return steps[order], steps_mm[order]


@njit(cache=True)
def _walk(at: np.ndarray, others: np.ndarray, offsets: np.ndarray, offsets_mm: np.ndarray) -> np.ndarray:
    """Distance from each flat position ``at`` to the first true voxel among its neighbours, infinite without one."""
    distances = np.full(len(at), np.inf)
    for i in range(len(at)):
        for j in range(len(offsets)):
            if others[at[i] + offsets[j]]:
                distances[i] = offsets_mm[j]
                break
    return distances


def _percentile(distances: np.ndarray, areas: np.ndarray | None, percentile: float) -> float:
    if areas is None:
        return float(np.percentile(distances, percentile))
    order = np.argsort(distances)
    share = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(np.searchsorted(share, percentile / 100), len(order) - 1)])
