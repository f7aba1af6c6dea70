"""NumPy arrays as images, from memory or a ``.npy`` file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume


def read_npy(path: Path) -> Volume:
    """Read an array that ``numpy.save`` wrote; see `volume_of`. Pickled objects are refused.

    Raises:
        DataError: damaged, or an array that is no image.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        msg = f"{path}: is not a readable .npy array ({error}); save it again with numpy.save"
        raise DataError(msg) from error
    return volume_of(array, source=str(path))


def volume_of(
    array: NDArray[Any], spacing_mm: Sequence[float] | None = None, dims: int | None = None, source: str = "array"
) -> Volume:
    """Make an image of an array, on a grid of unit ``px``.

    Args:
        array: ``(*S)`` or ``(C, *S)``; a picture may also be ``(H, W, 3)`` or ``(H, W, 4)``, where transparency is
            left out.
        spacing_mm: only its length counts, as the number of axes.
        dims: number of axes; by default that of ``spacing_mm``, else all axes up to three.
        source: what messages call it.

    Raises:
        DataError: not real numbers, empty, or not 2-D or 3-D.

    >>> volume_of(np.zeros((5, 6, 3)), dims=2).array.shape
    (3, 5, 6)
    """
    dims = dims or (len(spacing_mm) if spacing_mm is not None else min(array.ndim, 3))
    if array.ndim == 3 and dims == 2 and array.shape[-1] in (3, 4) and array.shape[0] > 4:
        array = np.moveaxis(array[..., :3], -1, 0)
    if array.ndim == dims:
        array = array[None]
    if array.ndim != dims + 1 or dims not in (2, 3) or 0 in array.shape or array.dtype.kind not in "buif":
        msg = f"{source}: {array.dtype} of shape {array.shape} is not a {dims}-D image; give numbers (*S) or (C, *S)"
        raise DataError(msg)
    return Volume(array, Geometry.regular(array.shape[1:], unit="px"), None, source)
