"""Values and grids of label masks."""

from __future__ import annotations

import numpy as np

from cphloc.data.io.formats import PICTURE_SUFFIXES
from cphloc.data.io.notice import notice
from cphloc.data.io.resample import resample_labels
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume, reoriented, reoriented_back

EQUAL_VOXELS = 0.1
"""Largest distance of the voxels of mask and image, in voxels, that counts as rounding."""
NEAR_VOXELS = 0.5
"""Largest distance, in voxels, at which every voxel of a mask still lies in one voxel of the image."""
_ROUNDING = 5e-5
"""Largest distance of a value from a whole number that counts as rounding."""
_SUM_ROUNDING = 1e-2
"""Largest distance from 1 of the sum over the classes of a one-hot mask that counts as rounding."""


def label_values(volume: Volume, binary: bool = True) -> np.ndarray:
    """Convert the voxels of a mask file to whole numbers ``(*S)``, uint8 where all are at most 255, else int32.

    Fractions between 0 and 1, such as probabilities or a smoothed mask, count from one half. Several channels are the
    classes of a one-hot mask: with a background channel first where they add up to 1 everywhere, else classes 1, 2, ...

    Args:
        volume: the mask as stored.
        binary: whether 255 means class 1 in a mask with only the values 0 and 255; otherwise, 255 stays.

    Raises:
        DataError: values are negative, not whole numbers, or channels that are not one-hot.
    """
    array = volume.array
    if len(array) > 1 and (array == array[:1]).all():
        array = array[:1]
    if len(array) > 1:
        return _one_hot(volume)
    values = array[0]
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f":
        whole = np.rint(values)
        exact = bool((np.abs(values - whole) <= _ROUNDING).all())
        if not exact and 0 <= low < 0.5 < high <= 1 and len(np.unique(values)) > 2:
            notice(volume.source, "holds fractions between 0 and 1; class 1 is where they are at least one half")
            whole, exact = values >= 0.5, True
        values = whole
        if not exact:
            msg = (
                f"{volume.source}: is not a label mask: it must contain whole numbers from 0, got fractions "
                f"({low:.6g} to {high:.6g}), as interpolation leaves them; save it with nearest neighbour"
            )
            raise DataError(msg)
    if low < -_ROUNDING or high >= 2**31:
        msg = f"{volume.source}: is not a label mask: it must contain whole numbers from 0, got {low:g} to {high:g}"
        raise DataError(msg)
    labels = values.astype(np.uint8 if high <= 255 else np.int32)
    if volume.source.lower().endswith((".jpg", ".jpeg")) and not np.isin(labels, (0, 1, 255)).all():
        msg = f"{volume.source}: is a JPEG, whose compression changes the labels of a mask; save masks as PNG"
        raise DataError(msg)
    return labels // 255 if binary and _is_binary(labels, volume.source) else labels


def onto_grid(
    labels: np.ndarray, own: Geometry, like: Geometry, source: str, resampled: bool = False, cropped: bool = False
) -> np.ndarray:
    """Bring a mask onto the grid of its image, ``(*like.shape)``.

    Axes in another order or direction are reoriented. Grids of one shape whose voxels lie at most `EQUAL_VOXELS` apart
    are the same; up to `NEAR_VOXELS`, each voxel is taken for the one it lies in, and the log says so.

    Args:
        labels: ``(*own.shape)``.
        own: grid of the mask.
        like: grid of the image.
        source: name of the mask, for messages.
        resampled: whether to resample a mask on any other grid by nearest neighbour; if False, it is an error.
        cropped: whether the mask may be a crop of the image's grid; outside it, the result is 0.

    Raises:
        DataError: the mask is on another grid.
    """
    if "px" in (own.unit, like.unit) and own.shape == like.shape:
        return labels
    if own.dims != like.dims:
        msg = f"{source}: mask is {own.dims}-D but its image is {like.dims}-D; both must have the same axes"
        raise DataError(msg)
    order, flip = own.canonical()
    canonical, target = own.reoriented(order, flip), like.reoriented(*like.canonical())
    offset = _offset(canonical, target)
    apart = np.inf if offset is None else np.abs(offset).max()
    if canonical.shape == target.shape and apart <= NEAR_VOXELS:
        if apart > EQUAL_VOXELS:
            notice(source, f"lies {apart:.2f} voxels beside its image; each voxel is taken for the one it lies in")
        return np.ascontiguousarray(reoriented_back(reoriented(labels, order, flip), *like.canonical()))
    inside = cropped and offset is not None and np.abs(offset - np.rint(offset)).max() <= EQUAL_VOXELS
    if resampled or inside:
        return resample_labels(labels, own, like, "nearest")
    msg = (
        f"{source}: mask is on another grid than its image: {_difference(canonical, target)}; resample the mask onto "
        "the image, or copy the image's header to it if only the header is wrong"
    )
    raise DataError(msg)


def _difference(own: Geometry, like: Geometry) -> str:
    """State in which properties two grids of the same order of axes differ."""
    units = own.unit, like.unit
    pairs = {
        "size": (own.shape, like.shape),
        "voxel size": tuple(f"{_rounded(grid)} {unit}" for grid, unit in zip((own, like), units, strict=True)),
        "direction": (own.direction.round(3).tolist(), like.direction.round(3).tolist()),
        "origin": tuple(tuple(round(x, 2) for x in grid.origin_mm) for grid in (own, like)),
    }
    return "; ".join(f"{what} {mine}, image {its}" for what, (mine, its) in pairs.items() if mine != its)


def _offset(own: Geometry, like: Geometry) -> np.ndarray | None:
    """Place of the first voxel of one grid in the other, in voxels per axis; ``None`` where the two differ in direction
    or voxel size.
    """
    corners = np.array(np.meshgrid(*((0.0, n - 1.0) for n in own.shape), indexing="ij")).reshape(own.dims, -1).T
    offset = like.world_to_edges(own.edges_to_world(corners + 0.5)) - 0.5 - corners
    return None if np.ptp(offset, axis=0).max() > EQUAL_VOXELS else offset[0]


def _one_hot(volume: Volume) -> np.ndarray:
    """Class numbers ``(*S)`` of a one-hot mask or of class probabilities ``(C, *S)``."""
    array, total = volume.array.astype(np.float32), volume.array.sum(axis=0, dtype=np.float64)
    if array.min() < 0 or array.max() > 1 + _SUM_ROUNDING or len(array) > 255:
        msg = (
            f"{volume.source}: mask has {len(array)} channels of {array.min():g} to {array.max():g}; pass one "
            "channel of integer labels, or one channel of 0 and 1 for each class"
        )
        raise DataError(msg)
    background = bool((np.abs(total - 1) <= _SUM_ROUNDING).all())
    if not background and (total > 1 + _SUM_ROUNDING).any():
        msg = f"{volume.source}: the classes of its {len(array)} channels overlap; pass one mask for each class"
        raise DataError(msg)
    first = "background, " if background else ""
    notice(volume.source, f"has {len(array)} channels, read as one-hot: {first}class 1, class 2, ...")
    if not background:
        array = np.concatenate([1 - total[None], array])
    return array.argmax(axis=0).astype(np.uint8)


def _is_binary(labels: np.ndarray, source: str) -> bool:
    """Return True for a mask with only the values 0 and 255, of which 255 stands for class 1."""
    if labels.dtype != np.uint8 or labels.max() != 255 or not np.isin(labels, (0, 255)).all():
        return False
    if source.lower().endswith(PICTURE_SUFFIXES):
        return True
    if labels.min() == 255:
        return False
    notice(source, "holds only the values 0 and 255; 255 is read as class 1")
    return True


def _rounded(geometry: Geometry) -> tuple[float, ...]:
    return tuple(round(s, 4) for s in geometry.spacing_mm)
