"""One pass that cuts a patch out of a volume and deforms it: image linear, mask nearest, boxes along.

A `Warp` says where each voxel of the patch comes from. Because it is applied while the patch is cut, rotated corners
are filled with real image instead of padding, and nothing but the voxels that are needed is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np


@dataclass(frozen=True)
class Warp:
    """From patch to volume, in edge coordinates: ``centre + matrix @ (x - size / 2 - shift + displacement(x))``.

    Args:
        matrix: ``(D, D)``.
        shift: by how many voxels things move in the patch, per axis.
        displacement: ``(D, *size)`` float32 in voxels of the patch, or ``None``.
    """

    matrix: np.ndarray
    shift: tuple[float, ...]
    displacement: np.ndarray | None = None

    @classmethod
    def identity(cls, dims: int) -> Warp:
        """The warp that changes nothing."""
        return cls(np.eye(dims), (0.0,) * dims)

    @property
    def mirrored(self) -> tuple[int, ...] | None:
        """The axes that are mirrored if that is all this warp does, else ``None``."""
        signs = np.diag(self.matrix)
        still = self.displacement is None and not any(self.shift)
        plain = still and np.array_equal(self.matrix, np.diag(np.sign(signs)))
        return tuple(int(a) for a in np.flatnonzero(signs < 0)) if plain else None

    def then(self, other: Warp) -> Warp:
        """This warp followed by ``other``; shifts and displacements of both are those of the final patch."""
        shift = tuple(a + b for a, b in zip(self.shift, other.shift, strict=True))
        fields = [w.displacement for w in (self, other) if w.displacement is not None]
        return Warp(self.matrix @ other.matrix, shift, sum(fields[1:], fields[0]) if fields else None)


def warp_image(image: np.ndarray, warp: Warp, centre: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Sample ``image`` ``(C, *S)`` linearly into ``(C, *size)``; zero beyond its edges.

    Args:
        image: float32.
        warp: where patch voxels come from.
        centre: edge coordinates ``(D,)`` in the volume of the middle of the patch.
        size: of the patch.
    """
    out = np.zeros((len(image), *size), np.float32)
    no_mask = np.zeros((0, 0, 0), np.uint8)
    _sample(_lift(np.ascontiguousarray(image), 1), no_mask, *_lifted(warp, centre, size), _lift(out, 1), no_mask)
    return out


def warp_image_and_mask(
    image: np.ndarray, mask: np.ndarray, warp: Warp, centre: np.ndarray, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Like `warp_image`, with ``mask`` ``(*S)`` uint8 sampled by nearest neighbour in the same pass."""
    out, out_mask = np.zeros((len(image), *size), np.float32), np.zeros(size, np.uint8)
    lifted = _lift(np.ascontiguousarray(image), 1), _lift(np.ascontiguousarray(mask), 0)
    _sample(*lifted, *_lifted(warp, centre, size), _lift(out, 1), _lift(out_mask, 0))
    return out, out_mask


def warp_boxes(boxes: np.ndarray, warp: Warp, centre: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Carry boxes ``(n, 2 D)`` of the volume into the patch.

    A box is taken as the ellipsoid inscribed in it, and the box around the deformed ellipsoid is returned: exact for
    mirroring and scaling, and a rotated box does not grow as it does when its empty corners are enclosed.
    """
    dims = len(size)
    boxes = np.asarray(boxes, float).reshape(-1, 2 * dims)
    middle, half = (boxes[:, :dims] + boxes[:, dims:]) / 2, (boxes[:, dims:] - boxes[:, :dims]) / 2
    moved = warp_points(middle, warp, centre, size)
    ends = [[warp_points(middle + sign * step * half, warp, centre, size) for sign in (1, -1)] for step in np.eye(dims)]
    semi_axes = np.stack([(far - near) / 2 for far, near in ends])
    reach = np.sqrt((semi_axes**2).sum(axis=0))
    return np.concatenate([moved - reach, moved + reach], axis=1).astype(np.float32)


def warp_points(points: np.ndarray, warp: Warp, centre: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Edge coordinates in the patch of ``points`` ``(n, D)`` of the volume."""
    still = (np.asarray(points, float) - centre) @ np.linalg.inv(warp.matrix).T + np.asarray(size) / 2 + warp.shift
    if warp.displacement is None:
        return still
    found = still
    for _ in range(10):
        index = np.clip(np.floor(found).astype(int), 0, np.asarray(size) - 1)
        found = still - warp.displacement[(slice(None), *index.T)].T
    return found


def _lift(array: np.ndarray, leading: int) -> np.ndarray:
    """View with three spatial axes after ``leading`` others: a 2-D image is a volume of one slice."""
    missing = 3 - (array.ndim - leading)
    return array.reshape(array.shape[:leading] + (1,) * missing + array.shape[leading:])


def _lifted(warp: Warp, centre: np.ndarray, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrix and offset for the index of patch voxels, and the displacement, with three axes each."""
    dims = len(size)
    first = np.asarray(centre) - 0.5 + warp.matrix @ (0.5 - np.asarray(size) / 2 - warp.shift)
    matrix, offset = np.eye(3), np.zeros(3)
    matrix[3 - dims :, 3 - dims :], offset[3 - dims :] = warp.matrix, first
    if warp.displacement is None:
        return matrix, offset, np.zeros((3, 0, 0, 0), np.float32)
    moved = np.zeros((3, *((1,) * (3 - dims)), *size), np.float32)
    moved[3 - dims :] = warp.displacement.reshape(moved[3 - dims :].shape)
    return matrix, offset, moved


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _sample(image, mask, matrix, offset, moved, out, out_mask):
    """Fill ``out`` ``(C, 3 axes)`` by trilinear and ``out_mask`` by nearest sampling; leave zeros outside.

    Most voxels lie amid their eight neighbours; without the tests that the others need they take a quarter less. The
    compiler does not make that of one branch for both, nor of a function for the shared lines.
    """
    channels, depth, height, width = image.shape
    flat, flat_mask, plane = image.reshape(channels, -1), mask.reshape(-1), height * width
    deforms, has_mask = moved.shape[1] > 0, out_mask.shape[0] > 0
    for k, j in np.ndindex(out.shape[1], out.shape[2]):
        for i in range(out.shape[3]):
            dk, dj, di = float(k), float(j), float(i)
            if deforms:
                dk, dj, di = dk + moved[0, k, j, i], dj + moved[1, k, j, i], di + moved[2, k, j, i]
            z = offset[0] + matrix[0, 0] * dk + matrix[0, 1] * dj + matrix[0, 2] * di
            y = offset[1] + matrix[1, 0] * dk + matrix[1, 1] * dj + matrix[1, 2] * di
            x = offset[2] + matrix[2, 0] * dk + matrix[2, 1] * dj + matrix[2, 2] * di
            z0, y0, x0 = int(np.floor(z)), int(np.floor(y)), int(np.floor(x))
            if 0 <= z0 < depth - 1 and 0 <= y0 < height - 1 and 0 <= x0 < width - 1:
                here = z0 * plane + y0 * width + x0
                if has_mask:
                    up, down = plane if z - z0 >= 0.5 else 0, width if y - y0 >= 0.5 else 0
                    out_mask[k, j, i] = flat_mask[here + up + down + (1 if x - x0 >= 0.5 else 0)]
                wz, wy, wx = np.float32(z - z0), np.float32(y - y0), np.float32(x - x0)
                for c in range(channels):
                    v = flat[c]
                    a, b, e, f = v[here], v[here + width], v[here + plane], v[here + plane + width]
                    a += (v[here + 1] - a) * wx
                    b += (v[here + width + 1] - b) * wx
                    e += (v[here + plane + 1] - e) * wx
                    f += (v[here + plane + width + 1] - f) * wx
                    a += (b - a) * wy
                    e += (f - e) * wy
                    out[c, k, j, i] = a + (e - a) * wz
            elif -0.5 <= z < depth - 0.5 and -0.5 <= y < height - 0.5 and -0.5 <= x < width - 0.5:
                if has_mask:
                    out_mask[k, j, i] = mask[int(z + 0.5), int(y + 0.5), int(x + 0.5)]
                z, y, x = min(max(z, 0.0), depth - 1.0), min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
                z0, y0, x0 = int(z), int(y), int(x)
                z1, y1, x1 = min(z0 + 1, depth - 1), min(y0 + 1, height - 1), min(x0 + 1, width - 1)
                wz, wy, wx = z - z0, y - y0, x - x0
                for c in range(channels):
                    a = (image[c, z0, y0, x0] * (1 - wx) + image[c, z0, y0, x1] * wx) * (1 - wy)
                    a += (image[c, z0, y1, x0] * (1 - wx) + image[c, z0, y1, x1] * wx) * wy
                    e = (image[c, z1, y0, x0] * (1 - wx) + image[c, z1, y0, x1] * wx) * (1 - wy)
                    e += (image[c, z1, y1, x0] * (1 - wx) + image[c, z1, y1, x1] * wx) * wy
                    out[c, k, j, i] = a * (1 - wz) + e * wz
