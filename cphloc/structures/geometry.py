"""Where an image lies in the patient.

Arrays are indexed in array order: ``(row, column)`` in 2-D, ``(slice, row, column)`` in 3-D. World points are LPS
millimetres (DICOM, ITK): ``(x, y, z)`` = (towards Left, Posterior, Superior); a 2-D image has ``(x, y)``.

Two kinds of coordinate exist inside an image and they differ by half a voxel: an *index* names the centre of a voxel
(ITK, NIfTI), an *edge* coordinate measures from the array's corner, so voxel ``i`` covers ``[i, i + 1)`` and its
centre lies at ``i + 0.5``. Boxes are always edges.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cphloc.errors import InputError


@dataclass(frozen=True, eq=False)
class Geometry:
    """Grid of an image: size, spacing, position and orientation.

    Args:
        shape: voxels per axis, array order.
        spacing_mm: voxel size per axis, array order, in ``unit``.
        origin_mm: world position of the centre of voxel 0, ``(x, y[, z])``.
        direction: ``(D, D)``; column ``k`` is the world unit vector along array axis ``k``.
        unit: ``mm``, or ``px`` where the file states no physical size; then no millimetre is reported.

    Raises:
        InputError: sizes do not agree, a spacing is not positive and finite, or the directions are not orthonormal.

    >>> Geometry.regular((10, 20, 20), (5.0, 1.0, 1.0)).voxel_volume
    5.0
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: np.ndarray
    unit: Literal["mm", "px"] = "mm"

    def __post_init__(self) -> None:
        dims = len(self.shape)
        direction = np.asarray(self.direction, dtype=float)
        object.__setattr__(self, "direction", direction)
        if len(self.spacing_mm) != dims or len(self.origin_mm) != dims or direction.shape != (dims, dims):
            msg = (
                f"geometry of a {dims}-D image needs {dims} spacings, {dims} origin coordinates and a {dims}x{dims} "
                f"direction; got {self.spacing_mm}, {self.origin_mm}, {direction.shape}"
            )
            raise InputError(msg)
        if not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            msg = f"spacing must be positive and finite, got {self.spacing_mm}"
            raise InputError(msg)
        if not np.allclose(direction.T @ direction, np.eye(dims), atol=1e-3):
            msg = f"direction is not orthonormal (sheared or tilted: resample it); got {direction.round(4).tolist()}"
            raise InputError(msg)

    @classmethod
    def regular(
        cls, shape: tuple[int, ...], spacing_mm: tuple[float, ...] | None = None, unit: Literal["mm", "px"] = "mm"
    ) -> Geometry:
        """Grid at the world's origin whose array axes run along z, y, x; spacing 1 when not given."""
        dims = len(shape)
        return cls(
            tuple(int(n) for n in shape),
            tuple(float(s) for s in spacing_mm) if spacing_mm is not None else (1.0,) * dims,
            (0.0,) * dims,
            np.eye(dims)[::-1].copy(),
            unit,
        )

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.shape)

    @property
    def voxel_volume(self) -> float:
        """Volume (3-D, mm³) or area (2-D, mm²) of one voxel; in pixels where ``unit`` is ``px``."""
        return float(np.prod(self.spacing_mm))

    @property
    def affine(self) -> np.ndarray:
        """``(D + 1, D + 1)`` matrix from array index (voxel centre) to world."""
        matrix = np.eye(self.dims + 1)
        matrix[: self.dims, : self.dims] = self.direction * np.asarray(self.spacing_mm)
        matrix[: self.dims, self.dims] = self.origin_mm
        return matrix

    def edges_to_world(self, edges: np.ndarray) -> np.ndarray:
        """World positions ``(..., D)`` of edge coordinates ``(..., D)``."""
        index = np.asarray(edges, dtype=float) - 0.5
        return index * self.spacing_mm @ self.direction.T + self.origin_mm

    def world_to_edges(self, world: np.ndarray) -> np.ndarray:
        """Edge coordinates ``(..., D)`` of world positions ``(..., D)``; the inverse of `edges_to_world`."""
        offset = np.asarray(world, dtype=float) - self.origin_mm
        return offset @ self.direction / self.spacing_mm + 0.5

    def crop(self, start: tuple[int, ...], shape: tuple[int, ...]) -> Geometry:
        """Grid of the ``shape`` voxels that begin at index ``start`` (which may lie outside)."""
        corner = np.asarray(start, dtype=float) * self.spacing_mm @ self.direction.T + self.origin_mm
        return replace(self, shape=tuple(int(n) for n in shape), origin_mm=tuple(map(float, corner)))

    def resampled(self, spacing_mm: tuple[float, ...]) -> Geometry:
        """Grid over the same field of view with about ``spacing_mm``; the outer edges stay where they are.

        The number of voxels is rounded, so the spacing is adjusted to fill the extent exactly:
        coordinates scale by ``n' / n``.
        """
        shape = tuple(max(1, round(n * s / t)) for n, s, t in zip(self.shape, self.spacing_mm, spacing_mm, strict=True))
        spacing = tuple(n * s / m for n, s, m in zip(self.shape, self.spacing_mm, shape, strict=True))
        first_centre = np.asarray([t / 2 / s for s, t in zip(self.spacing_mm, spacing, strict=True)])
        return replace(self, shape=shape, spacing_mm=spacing, origin_mm=tuple(self.edges_to_world(first_centre)))

    def canonical(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Axis order and flips that bring this grid nearest to the world's axes (slices along z, rows y, columns x).

        Returns:
            ``(order, flip)`` with ``np.flip(np.transpose(array, order), flip)`` in canonical orientation:
            slice index grows towards the head, row index towards the back, column index towards the left.
        """
        permutations = itertools.permutations(range(self.dims))
        world_axes = range(self.dims - 1, -1, -1)
        order = max(
            permutations, key=lambda p: sum(abs(self.direction[w, a]) for w, a in zip(world_axes, p, strict=True))
        )
        flip = tuple(k for k, (w, a) in enumerate(zip(world_axes, order, strict=True)) if self.direction[w, a] < 0)
        return order, flip

    def canonical_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Express boxes ``(n, 2 D)`` of this grid in canonical orientation; unchanged where the grid has it already."""
        grid = self.reoriented(*self.canonical())
        return np.asarray(boxes) if self.same_grid(grid, tolerance_mm=0.0) else self.boxes_to(grid, boxes)

    def boxes_from_canonical(self, boxes: np.ndarray) -> np.ndarray:
        """Express boxes ``(n, 2 D)`` in canonical orientation on this grid; the inverse of `canonical_boxes`."""
        grid = self.reoriented(*self.canonical())
        return np.asarray(boxes) if self.same_grid(grid, tolerance_mm=0.0) else grid.boxes_to(self, boxes)

    def plane(self, axis: int) -> Geometry:
        """2-D grid of a volume that has one voxel along ``axis``.

        Its world axes are those of the volume that the plane is nearest to, with z turned to point to the feet, so that
        the canonical orientation of an axial, coronal or sagittal slice is that in which it is displayed.
        """
        rest = [a for a in range(3) if a != axis]
        world = [w for w in range(3) if w != int(np.abs(self.direction[:, axis]).argmax())]
        down = np.array([-1.0 if w == 2 else 1.0 for w in world])
        within = self.direction[world][:, rest] * down[:, None]
        straight = np.eye(2) if abs(np.trace(within)) >= abs(within[0, 1]) + abs(within[1, 0]) else np.eye(2)[::-1]
        direction = straight * np.where(within < 0, -1.0, 1.0)
        shape, spacing = tuple(self.shape[a] for a in rest), tuple(self.spacing_mm[a] for a in rest)
        origin = tuple(float(self.origin_mm[w] * d) for w, d in zip(world, down, strict=True))
        return Geometry(shape, spacing, origin, direction, self.unit)

    def reoriented(self, order: tuple[int, ...], flip: tuple[int, ...]) -> Geometry:
        """Grid of ``np.flip(np.transpose(array, order), flip)``."""
        shape = tuple(self.shape[a] for a in order)
        spacing = tuple(self.spacing_mm[a] for a in order)
        direction = self.direction[:, list(order)].copy()
        first = np.zeros(self.dims)
        for axis in flip:
            first[order[axis]] = self.shape[order[axis]] - 1
            direction[:, axis] *= -1
        origin = first * self.spacing_mm @ self.direction.T + self.origin_mm
        return replace(self, shape=shape, spacing_mm=spacing, direction=direction, origin_mm=tuple(map(float, origin)))

    def boxes_to(self, other: Geometry, boxes: np.ndarray) -> np.ndarray:
        """Express boxes ``(n, 2 D)`` of this grid in the edge coordinates of ``other``.

        All corners are carried through the world and enclosed again, so a box grows where the grids are rotated
        against each other; between flipped, cropped or rescaled grids it is exact.
        """
        return _enclosing(other.world_to_edges(self._world_corners(boxes)))

    def boxes_to_world(self, boxes: np.ndarray) -> np.ndarray:
        """World boxes ``(n, 2 D)`` ``[lo..., hi...]``, LPS ``(x, y[, z])``, that enclose boxes of this grid."""
        return _enclosing(self._world_corners(boxes))

    def _world_corners(self, boxes: np.ndarray) -> np.ndarray:
        """World positions ``(n, 2^D, D)`` of the corners of boxes ``(n, 2 D)``."""
        boxes = np.asarray(boxes, dtype=float).reshape(-1, 2 * self.dims)
        choice = np.array(list(itertools.product((0, 1), repeat=self.dims)), dtype=bool)
        return self.edges_to_world(np.where(choice, boxes[:, None, self.dims :], boxes[:, None, : self.dims]))

    def same_grid(self, other: Geometry, tolerance_mm: float = 1e-2) -> bool:
        """Whether both grids have the same shape and their corner voxels lie within ``tolerance_mm``."""
        if self.shape != other.shape:
            return False
        corners = np.array(list(itertools.product(*((0.0, n) for n in self.shape))))
        return bool(np.abs(self.edges_to_world(corners) - other.edges_to_world(corners)).max() <= tolerance_mm)


def _enclosing(points: np.ndarray) -> np.ndarray:
    """Boxes ``(n, 2 D)`` around points ``(n, m, D)``."""
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
