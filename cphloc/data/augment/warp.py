"""Crop and deform a patch in one resampling: linear for images, linear per class for masks, analytic for boxes.

A `Warp` maps patch coordinates to image coordinates. Because it is applied while the patch is cropped, the corners of a
rotated patch contain image data instead of padding, and only the voxels that are needed are read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cphloc.paths import compiled
from cphloc.structures.padding import Fill


@dataclass(frozen=True)
class Warp:
    """Mapping from patch coordinates to image coordinates.

    In edge coordinates, point ``x`` of the patch is mapped to ``centre + matrix @ (x - size / 2 - shift +
    displacement(x))`` in the image, where ``centre`` is the middle of the patch in the image.

    Args:
        matrix: ``(D, D)``; a rotation, scaling or mirroring in voxels.
        shift: voxels per axis by which objects move in the patch.
        displacement: ``(D, *size)`` float32, in voxels of the patch; ``None`` for none.
    """

    matrix: np.ndarray
    shift: tuple[float, ...]
    displacement: np.ndarray | None = None

    @classmethod
    def identity(cls, dims: int) -> Warp:
        """Return the identity warp."""
        return cls(np.eye(dims), (0.0,) * dims)

    @property
    def mirrored(self) -> tuple[int, ...] | None:
        """Flipped axes (possibly none) if the warp is a pure flip; ``None`` for any other warp."""
        signs = np.diag(self.matrix)
        still = self.displacement is None and not any(self.shift)
        plain = still and np.array_equal(self.matrix, np.diag(np.sign(signs)))
        return tuple(int(a) for a in np.flatnonzero(signs < 0)) if plain else None

    def then(self, other: Warp) -> Warp:
        """Compose this warp with ``other``; shifts and displacements of both are added in the patch."""
        shift = tuple(a + b for a, b in zip(self.shift, other.shift, strict=True))
        fields = [w.displacement for w in (self, other) if w.displacement is not None]
        return Warp(self.matrix @ other.matrix, shift, sum(fields[1:], fields[0]) if fields else None)


def warp_image(
    image: np.ndarray, warp: Warp, centre: np.ndarray, size: tuple[int, ...], fill: Fill = "zero"
) -> np.ndarray:
    """Cut a warped patch out of an image by linear interpolation.

    Args:
        image: ``(C, *S)`` float32.
        warp: mapping from patch to image coordinates.
        centre: edge coordinates ``(D,)`` of the middle of the patch in the image.
        size: size of the patch in voxels.
        fill: values beyond the edge of the image.

    Returns:
        ``(C, *size)`` float32.
    """
    out = np.zeros((len(image), *size), np.float32)
    no_mask = np.zeros((0, 0, 0), np.uint8)
    lifted = _lift(np.ascontiguousarray(image), 1), no_mask
    _sample(*lifted, *_lifted(warp, centre, size), _lift(out, 1), no_mask, fill == "edge")
    return out


def warp_image_and_mask(
    image: np.ndarray, mask: np.ndarray, warp: Warp, centre: np.ndarray, size: tuple[int, ...], fill: Fill = "zero"
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a warped patch out of an image and its mask in one pass.

    The mask is interpolated linearly as one map per class, and each voxel gets the class with the largest value.
    This moves outlines less than nearest-neighbour sampling, which rounds them to whole voxels.

    Args:
        image: ``(C, *S)`` float32, interpolated linearly.
        mask: ``(*S)`` integers.
        warp: mapping from patch to image coordinates.
        centre: edge coordinates ``(D,)`` of the middle of the patch in the image.
        size: size of the patch in voxels.
        fill: values beyond the edge of the image; the mask is 0 there.

    Returns:
        ``(C, *size)`` float32 and ``(*size)`` in the type of the mask.
    """
    out, out_mask = np.zeros((len(image), *size), np.float32), np.zeros(size, mask.dtype)
    lifted = _lift(np.ascontiguousarray(image), 1), _lift(np.ascontiguousarray(mask), 0)
    _sample(*lifted, *_lifted(warp, centre, size), _lift(out, 1), _lift(out_mask, 0), fill == "edge")
    return out, out_mask


def warp_boxes(boxes: np.ndarray, warp: Warp, centre: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Map boxes ``(n, 2 D)`` of the image to edge coordinates of the patch.

    Each box is treated as the ellipsoid inscribed in it, and the box around the deformed ellipsoid is returned. This is
    exact for mirroring and scaling; a rotated box grows less than the box around its rotated corners.
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
    """Map points ``(n, D)`` of the image to edge coordinates of the patch; displacements are inverted by iteration."""
    still = (np.asarray(points, float) - centre) @ np.linalg.inv(warp.matrix).T + np.asarray(size) / 2 + warp.shift
    if warp.displacement is None:
        return still
    found = still
    for _ in range(10):
        index = np.clip(np.floor(found).astype(int), 0, np.asarray(size) - 1)
        found = still - warp.displacement[(slice(None), *index.T)].T
    return found


def _lift(array: np.ndarray, leading: int) -> np.ndarray:
    """View an array with three spatial axes after ``leading`` others; a 2-D image becomes a volume of one slice."""
    missing = 3 - (array.ndim - leading)
    return array.reshape(array.shape[:leading] + (1,) * missing + array.shape[leading:])


def _lifted(warp: Warp, centre: np.ndarray, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrix and offset from patch index to image index, and the displacement, each with three axes."""
    dims = len(size)
    first = np.asarray(centre) - 0.5 + warp.matrix @ (0.5 - np.asarray(size) / 2 - warp.shift)
    matrix, offset = np.eye(3), np.zeros(3)
    matrix[3 - dims :, 3 - dims :], offset[3 - dims :] = warp.matrix, first
    if warp.displacement is None:
        return matrix, offset, np.zeros((3, 0, 0, 0), np.float32)
    moved = np.zeros((3, *((1,) * (3 - dims)), *size), np.float32)
    moved[3 - dims :] = warp.displacement.reshape(moved[3 - dims :].shape)
    return matrix, offset, moved


@compiled(nogil=True, inline="always")
def _majority(mask, corner, steps, wz, wy, wx):
    """Class with the largest sum of interpolation weights among the 8 voxels around a point; the first at a tie."""
    first = mask[corner]
    same = True
    for n in range(1, 8):
        same &= mask[corner + steps[n]] == first
    if same:
        return first
    best, largest = first, np.float32(-1)
    for n in range(8):
        value, total = mask[corner + steps[n]], np.float32(0)
        for m in range(8):
            if mask[corner + steps[m]] == value:
                at_z, at_y, at_x = m & 4, m & 2, m & 1
                total += (wz if at_z else 1 - wz) * (wy if at_y else 1 - wy) * (wx if at_x else 1 - wx)
        if total > largest:
            best, largest = value, total
    return best


@compiled(nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")
def _sample(image, mask, matrix, offset, moved, out, out_mask, repeat_edge):
    """Fill ``out`` ``(C, 3 axes)`` and ``out_mask`` by trilinear sampling; both start as zeros.

    Outside the image, the mask stays 0, and so does the image, unless ``repeat_edge``.

    Each row is done in two steps, coordinates first and values second; the first step has no branch, so that the
    compiler vectorizes it. Within half a voxel of the edge, the outermost voxels are read. The order of the sums makes
    a sample at the centre of a voxel exactly equal to that voxel.
    """
    channels, depth, height, width = image.shape
    flat, flat_mask = image.reshape(channels, -1), mask.reshape(-1)
    plane, line, none = np.int64(height * width), np.int64(width), np.int64(0)
    # offset to the next voxel along each axis; 0 where the axis has a single voxel
    to_z, to_y, to_x = plane if depth > 1 else none, line if height > 1 else none, np.int64(1 if width > 1 else 0)
    last = np.array([depth - 1, height - 1, width - 1], np.float32)
    before_last = np.maximum(last - 1, 0)
    zero, half, one, turn = np.float32(0), np.float32(0.5), np.float32(1), matrix.astype(np.float32)
    deforms, has_mask = moved.shape[1] > 0, out_mask.shape[0] > 0
    length = out.shape[3]
    corner, inside = np.empty(length, np.int64), np.empty(length, np.bool_)
    steps = np.array([none, to_x, to_y, to_y + to_x, to_z, to_z + to_x, to_z + to_y, to_z + to_y + to_x])
    wz, wy, wx = np.empty(length, np.float32), np.empty(length, np.float32), np.empty(length, np.float32)
    for k, j in np.ndindex(out.shape[1], out.shape[2]):
        first_z = np.float32(offset[0] + matrix[0, 0] * k + matrix[0, 1] * j)
        first_y = np.float32(offset[1] + matrix[1, 0] * k + matrix[1, 1] * j)
        first_x = np.float32(offset[2] + matrix[2, 0] * k + matrix[2, 1] * j)
        for i in range(length):
            dk, dj, di = zero, zero, np.float32(i)
            if deforms:
                dk, dj, di = moved[0, k, j, i], moved[1, k, j, i], di + moved[2, k, j, i]
            z = first_z + turn[0, 0] * dk + turn[0, 1] * dj + turn[0, 2] * di
            y = first_y + turn[1, 0] * dk + turn[1, 1] * dj + turn[1, 2] * di
            x = first_x + turn[2, 0] * dk + turn[2, 1] * dj + turn[2, 2] * di
            inside_z = (z >= -half) & (z < last[0] + half)
            inside_y = (y >= -half) & (y < last[1] + half)
            inside_x = (x >= -half) & (x < last[2] + half)
            inside[i] = inside_z & inside_y & inside_x
            z, y, x = min(max(z, zero), last[0]), min(max(y, zero), last[1]), min(max(x, zero), last[2])
            z0, y0, x0 = min(z, before_last[0]), min(y, before_last[1]), min(x, before_last[2])
            z0, y0, x0 = np.int32(z0), np.int32(y0), np.int32(x0)
            corner[i] = z0 * plane + y0 * line + x0
            wz[i], wy[i], wx[i] = z - np.float32(z0), y - np.float32(y0), x - np.float32(x0)
        if has_mask:
            for i in range(length):
                if inside[i]:
                    out_mask[k, j, i] = _majority(flat_mask, corner[i], steps, wz[i], wy[i], wx[i])
        for c in range(channels):
            v, row = flat[c], out[c, k, j]
            for i in range(length):
                here = corner[i]
                a, b, e, f = v[here], v[here + to_y], v[here + to_z], v[here + to_z + to_y]
                a, b = a * (one - wx[i]) + v[here + to_x] * wx[i], b * (one - wx[i]) + v[here + to_y + to_x] * wx[i]
                e = e * (one - wx[i]) + v[here + to_z + to_x] * wx[i]
                f = f * (one - wx[i]) + v[here + to_z + to_y + to_x] * wx[i]
                a, e = a * (one - wy[i]) + b * wy[i], e * (one - wy[i]) + f * wy[i]
                row[i] = a * (one - wz[i]) + e * wz[i] if inside[i] or repeat_edge else zero
