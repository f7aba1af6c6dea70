"""Convert between SimpleITK images and NumPy arrays with a `Geometry`.

ITK counts axes x, y, z and arrays z, y, x; both place voxel centres in LPS millimetres, so only the order changes.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.errors import DataError, InputError
from cphloc.structures.geometry import Geometry

if TYPE_CHECKING:
    import SimpleITK as sitk


_STDERR = threading.Lock()
"""Held while stderr is redirected, which two threads must not do at once."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn exceptions of ITK while reading ``path`` into one `DataError`, and silence its warnings."""
    import SimpleITK as sitk

    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with quiet_stderr():
            yield
    except DataError:
        raise
    except (RuntimeError, MemoryError, OverflowError) as error:
        raise damaged(path, _reason(error)) from error
    except InputError as error:
        raise damaged(path, " ".join(str(error).split())) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard what C code prints to stderr; some libraries of ITK print even with warnings switched off."""
    with _STDERR:
        sys.stderr.flush()
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _reason(error: Exception) -> str:
    """The last line with words of an ITK error message, which states the reason."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalpha, line))]
    return lines[-1].removeprefix("sitk::ERROR: ").rstrip(" .!") if lines else type(error).__name__


def damaged(path: Path, reason: str) -> DataError:
    """Build the error for a file that cannot be read.

    Args:
        path: the file.
        reason: what is wrong with it.
    """
    return DataError(f"{path}: cannot be read ({reason}); copy or export it again")


def geometry_of(image: sitk.Image | sitk.ImageFileReader) -> Geometry:
    """Grid of an ITK image, or of a file whose header was read; axes after the third are dropped."""
    size = image.GetSize()
    dims = min(len(size), 3)
    direction = np.reshape(image.GetDirection(), (len(size), len(size)))
    return Geometry(
        shape=tuple(int(n) for n in size[:dims][::-1]),
        spacing_mm=tuple(float(s) for s in image.GetSpacing()[:dims][::-1]),
        origin_mm=tuple(float(o) for o in image.GetOrigin()[:dims]),
        direction=direction[:dims, :dims][:, ::-1],
    )


def to_itk(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """Make an ITK image of one channel ``(*S)`` on the grid ``geometry``."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction[:, ::-1].ravel().tolist())
    return image
