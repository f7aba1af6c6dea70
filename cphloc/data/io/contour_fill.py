"""Rasterize closed planar contours into masks."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

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
_AT_ONCE = 1 << 20
"""Most crossings of edges and rows that are computed at once, which bounds the memory."""
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
    inside = np.zeros((rows, columns), bool)
    window, pixels = _filled(polygon, rows, columns)
    inside[window] = pixels
    return inside


def _filled(polygon: np.ndarray, rows: int, columns: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """Window of the image around a polygon, and the pixels of the window that are inside, bool."""
    size = (rows, columns)
    top, left = np.clip(np.floor(polygon.min(axis=0)), 0, size).astype(int)
    bottom, right = np.clip(np.ceil(polygon.max(axis=0)) + 1, (top, left), size).astype(int)
    toggles = np.zeros((bottom - top, right - left + 1), np.int32)
    end = np.concatenate([polygon[1:], polygon[:1]])
    rising = np.minimum(polygon[:, 0], end[:, 0]), np.maximum(polygon[:, 0], end[:, 0])
    first, stop = (
        np.ceil(r - 0.5).clip(top, bottom).astype(int) for r in rising
    )  # an edge crosses the centres of these rows
    total = np.concatenate([[0], np.cumsum(stop - first)])
    for start in range(0, int(total[-1]), _AT_ONCE):
        crossing = np.arange(start, min(start + _AT_ONCE, int(total[-1])))
        edge = np.searchsorted(total, crossing, side="right") - 1
        row = first[edge] + crossing - total[edge]
        share = (row + 0.5 - polygon[edge, 0]) / (end[edge, 0] - polygon[edge, 0])
        column = polygon[edge, 1] + share * (end[edge, 1] - polygon[edge, 1])
        first_right = np.clip(np.ceil(column - 0.5), left, right).astype(int)
        np.add.at(toggles, (row - top, first_right - left), 1)
    window = (slice(int(top), int(bottom)), slice(int(left), int(right)))
    return window, np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1


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
    plane_of = np.empty(len(depths), int)
    for place, members in enumerate(planes):
        plane_of[members] = place
    centre = at[plane_of]
    gaps = _gaps(centre, plane_of, low, high, sparsest)
    usual = gaps[gaps <= sparsest]
    step = float(np.median(usual)) if len(usual) else 1.0
    reach = np.where(gaps <= min(1.5 * step, sparsest), gaps, step) / 2
    return np.stack([centre - reach[:, 0], centre + reach[:, 1]], axis=1)


def _gaps(centre: np.ndarray, plane: np.ndarray, low: np.ndarray, high: np.ndarray, most: float) -> np.ndarray:
    """Distance ``(n, 2)`` of each contour to the next planes below and above with a contour at the same place.

    All contours look at their next neighbour in the order of the planes at once, then at the one after it, and so on
    until each has found one.

    Args:
        centre: ``(n,)`` position of the plane of each contour.
        plane: ``(n,)`` its number, rising with the position.
        low: ``(n, 2)`` least coordinates of each contour within the slice.
        high: ``(n, 2)`` greatest ones.
        most: distance beyond which it is infinite.
    """
    order = np.argsort(plane, kind="stable")
    centre, plane, low, high = centre[order], plane[order], low[order], high[order]
    gaps = np.full((len(order), 2), np.inf)
    for side, step in enumerate((-1, 1)):
        left, offset = np.arange(len(order)), step
        while len(left):
            left = left[(left + offset >= 0) & (left + offset < len(order))]
            left = left[np.abs(centre[left + offset] - centre[left]) <= most]
            other = left + offset
            meets = ((low[other] < high[left]) & (high[other] > low[left])).all(axis=1)
            found = meets & (plane[other] != plane[left])
            gaps[order[left[found]], side] = np.abs(centre[other] - centre[left])[found]
            left, offset = left[~found], offset + step
    return gaps


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
    inside = np.zeros((rows, columns), bool)
    for polygon in polygons if xor else _by_size(polygons):
        window, one = _filled(polygon, rows, columns)
        before = inside[window]
        hole = xor or (one & before).sum() >= _INSIDE * one.sum()
        inside[window] = before ^ one if xor else before & ~one if hole else before | one
    return inside


def _by_size(polygons: list[np.ndarray]) -> list[np.ndarray]:
    """Contours from large to small, without repetitions of one that has the same centre, extent and area."""
    kept: dict[tuple, tuple[float, np.ndarray]] = {}
    for polygon in polygons:
        area = _area(polygon)
        corners = np.concatenate([polygon.min(axis=0), polygon.max(axis=0)])
        kept.setdefault((*corners.round(2).tolist(), round(area, 1)), (area, polygon))
    return [polygon for _, polygon in sorted(kept.values(), key=itemgetter(0), reverse=True)]


def _area(polygon: np.ndarray) -> float:
    rows, columns = polygon[:, 0], polygon[:, 1]
    after = np.concatenate([polygon[1:], polygon[:1]])
    return 0.5 * abs(float(rows @ after[:, 1] - columns @ after[:, 0]))
