"""Convert NumPy arrays, from memory or a ``.npy`` file, to images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cphloc.data.io.content import check_regular
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume


def read_npy(path: Path) -> Volume:
    """Read a ``.npy`` file as an image; see `volume_of`. Pickled objects are rejected.

    Raises:
        DataError: the file is damaged, or the array is not an image.
    """
    check_regular(path)
    try:
        # Mapped first, which compares the header with the size of the file before memory is needed.
        array = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:  # numpy evaluates the header as Python literals, whose errors are of many types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"{path}: is not a readable .npy array ({reason}); save it again with numpy.save"
        raise DataError(msg) from error
    return volume_of(array, source=str(path))


def volume_of(
    array: NDArray[Any], spacing_mm: Sequence[float] | None = None, dims: int | None = None, source: str = "array"
) -> Volume:
    """Convert an array to an image whose geometry has the unit ``px``, that is, no physical size.

    Args:
        array: ``(*S)`` or ``(C, *S)``; a 2-D picture may also be ``(H, W, 3)`` or ``(H, W, 4)``, whose alpha
            channel is dropped.
        spacing_mm: voxel size; only its length is used, as the default of ``dims``.
        dims: number of spatial axes; by default the length of ``spacing_mm``, else ``min(array.ndim, 3)``.
        source: name of the image in error messages.

    Raises:
        DataError: the array is empty, does not contain real numbers, or is not a 2-D or 3-D image.

    >>> volume_of(np.zeros((5, 6, 3)), dims=2).array.shape
    (3, 5, 6)
    """
    dims = dims or (len(spacing_mm) if spacing_mm is not None else min(array.ndim, 3))
    if array.ndim == 3 and dims == 2 and array.shape[-1] in (3, 4) and array.shape[0] > 4:
        array = np.moveaxis(array[..., :3], -1, 0)
    if array.ndim == dims:
        array = array[None]
    if array.ndim != dims + 1 or dims not in (2, 3) or 0 in array.shape or array.dtype.kind not in "buif":
        msg = f"{source}: {array.dtype} of shape {array.shape} is not a {dims}-D image; pass numbers (*S) or (C, *S)"
        raise DataError(msg)
    return Volume(array, Geometry.regular(array.shape[1:], unit="px"), None, source)
