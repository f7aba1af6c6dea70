"""Rasterize closed planar contours into masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry

_FLAT = 0.5
"""Largest extent of a contour across the slices of the image, in slices."""
_JITTER = 0.25
"""Largest distance of contours drawn in one plane, in slices: positions are rounded, or drawn on a tilted table."""
_SPARSEST_MM = 10.0
"""Largest distance of contour planes between which slices are filled, in mm."""
_ROUNDING = 0.01
"""Rounding of positions, in slices: of two slices as near to a plane, it fills the upper one."""
_INSIDE = 0.95
"""Share of a contour's pixels in those before it from which on it is a hole."""


def rasterize(contours: Sequence[np.ndarray], geometry: Geometry, xor: bool = False) -> np.ndarray:
    """Rasterize contours into a mask of the voxels whose centre is inside.

    A contour within another is a hole, and one within the hole an island; contours that overlap in part are united.
    A contour fills the slices up to half way to the next contour at the same place. Contours of one plane may differ by
    a quarter of a slice. Where contours are further apart than usual, slices between them stay empty.

    Args:
        contours: closed contours, each ``(n, 3)`` points in LPS mm, all perpendicular to one axis of ``geometry``.
        geometry: 3-D grid of the mask.
        xor: combine contours by exclusive or, as the type CLOSEDPLANAR_XOR demands (DICOM PS3.3 C.8.8.6.3).

    Returns:
        ``(*geometry.shape)`` uint8, 1 inside.

    Raises:
        DataError: the contours are oblique to the grid, or the grid is 2-D.

    >>> square = np.array([[0.5, 0.5, 2], [0.5, 3.5, 2], [3.5, 3.5, 2], [3.5, 0.5, 2]])
    >>> rasterize([square], Geometry.regular((5, 5, 5))).sum(axis=(1, 2)).tolist()
    [0, 0, 9, 0, 0]
    """
    if geometry.dims != 3:
        msg = "contours lie in a volume but the image is 2-D; pass the whole series as a 3-D image"
        raise DataError(msg)
    mask = np.zeros(geometry.shape, np.uint8)
    areas = [c for c in contours if len(c) >= 3]
    if not areas:
        return mask
    axis = _normal_axis([geometry.world_to_edges(c) for c in areas])
    order = (axis, *(a for a in range(3) if a != axis))
    polygons = [geometry.world_to_edges(c)[:, order] for c in areas]
    depths = np.array([p[:, 0].mean() - 0.5 for p in polygons])
    flat = [p[:, 1:] for p in polygons]
    slices = np.transpose(mask, order)  # a view: filling it fills the mask
    slabs = _slabs(depths, flat, _SPARSEST_MM / geometry.spacing_mm[axis]) + _ROUNDING
    for k in range(len(slices)):
        members = np.flatnonzero((slabs[:, 0] < k) & (k <= slabs[:, 1]))
        if len(members):
            slices[k] = _combined([flat[m] for m in members], slices.shape[1], slices.shape[2], xor)
    return mask


def fill(polygon: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Fill a polygon ``(n, 2)`` of edge coordinates by the even-odd rule at pixel centres, as ``(rows, columns)`` bool.

    >>> fill(np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 2.0], [2.0, 0.0]]), 3, 3).sum()
    np.int64(4)
    """
    toggles = np.zeros((rows, columns + 1), int)
    centres = np.arange(rows) + 0.5
    end = np.roll(polygon, -1, axis=0)
    edge, row = np.nonzero((polygon[:, :1] <= centres) != (end[:, :1] <= centres))
    share = (centres[row] - polygon[edge, 0]) / (end[edge, 0] - polygon[edge, 0])
    column = polygon[edge, 1] + share * (end[edge, 1] - polygon[edge, 1])
    first_right = np.clip(np.ceil(column - 0.5), 0, columns).astype(int)
    np.add.at(toggles, (row, first_right), 1)
    return np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1


def _normal_axis(polygons: Sequence[np.ndarray]) -> int:
    """Array axis that all contours are perpendicular to."""
    extents = np.max([np.ptp(p, axis=0) for p in polygons], axis=0)
    axis = next((a for a in range(3) if extents[a] <= _FLAT), None)
    if axis is None:
        msg = (
            f"a contour crosses {extents[0]:.1f} slices of the image; contours must be parallel to its slices, or to "
            "its rows or columns: resample the image to the planes in which they were drawn"
        )
        raise DataError(msg)
    return axis


def _slabs(depths: np.ndarray, polygons: Sequence[np.ndarray], sparsest: float) -> np.ndarray:
    """Range ``(n, 2)`` across the slices that each contour fills, in slices; slice k lies at k.

    It reaches half way to the next planes with a contour at the same place, or half the usual distance of planes where
    there is none, or only one further away.

    Args:
        depths: ``(n,)`` position of each contour.
        polygons: their points ``(m, 2)`` within the slice.
        sparsest: largest distance of planes between which slices are filled.
    """
    planes = _planes(depths)
    at = np.array([depths[p].mean() for p in planes])
    low, high = (np.array([limit(p, axis=0) for p in polygons]) for limit in (np.min, np.max))
    gaps = np.full((len(depths), 2), np.inf)
    for place, members in enumerate(planes):
        for side, others in enumerate((range(place - 1, -1, -1), range(place + 1, len(planes)))):
            for contour in members:
                met = (
                    other
                    for other in others
                    if ((low[planes[other]] < high[contour]) & (high[planes[other]] > low[contour])).all(axis=1).any()
                )
                gaps[contour, side] = abs(at[next(met, place)] - at[place]) or np.inf
    usual = gaps[gaps <= sparsest]
    step = float(np.median(usual)) if len(usual) else 1.0
    reach = np.where(gaps <= min(1.5 * step, sparsest), gaps, step) / 2
    centre = np.empty(len(depths))
    for place, members in enumerate(planes):
        centre[members] = at[place]
    return np.stack([centre - reach[:, 0], centre + reach[:, 1]], axis=1)


def _planes(depths: np.ndarray) -> list[list[int]]:
    """Group contours into planes by rising depth.

    Positions that differ by up to `_JITTER` form one plane, unless contours are drawn that densely: then most planes
    have a neighbour as near, and only equal positions belong together.
    """
    order = np.argsort(depths, kind="stable")

    def _grouped(width: float) -> list[list[int]]:
        groups: list[list[int]] = []
        for k in order.tolist():
            if groups and depths[k] - depths[groups[-1][0]] <= width:
                groups[-1].append(k)
            else:
                groups.append([k])
        return groups

    wide = _grouped(_JITTER)
    gaps = np.diff([depths[group].mean() for group in wide])
    dense = len(gaps) > 0 and np.median(gaps) < 2 * _JITTER
    return _grouped(0.01) if dense else wide


def _combined(polygons: list[np.ndarray], rows: int, columns: int, xor: bool) -> np.ndarray:
    """Union of the contours of one slice, without holes; exclusive or where ``xor`` is set."""
    if not xor:
        polygons = sorted(_distinct(polygons), key=_area, reverse=True)
    inside = np.zeros((rows, columns), bool)
    for polygon in polygons:
        one = fill(polygon, rows, columns)
        hole = xor or (one & inside).sum() >= _INSIDE * one.sum()
        inside = inside ^ one if xor else inside & ~one if hole else inside | one
    return inside


def _distinct(polygons: list[np.ndarray]) -> list[np.ndarray]:
    """Contours without repetitions of one that has the same centre, extent and area."""
    kept: dict[tuple, np.ndarray] = {}
    for polygon in polygons:
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        kept.setdefault((*np.round(np.concatenate([low, high]), 2).tolist(), round(_area(polygon), 1)), polygon)
    return list(kept.values())


def _area(polygon: np.ndarray) -> float:
    rows, columns = polygon[:, 0], polygon[:, 1]
    return 0.5 * abs(float(rows @ np.roll(columns, -1) - columns @ np.roll(rows, -1)))
