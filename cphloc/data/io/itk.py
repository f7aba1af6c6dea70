"""Convert between SimpleITK images and NumPy arrays with a `Geometry`.

ITK orders axes x, y, z and arrays z, y, x. Both use LPS coordinates of voxel centres in mm, so only the axis order
changes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.errors import DataError, InputError
from cphloc.paths import readable
from cphloc.structures.geometry import Geometry

if TYPE_CHECKING:
    import SimpleITK as sitk


_STDERR = threading.Lock()
"""Lock that allows one thread at a time to redirect stderr."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Context manager that converts ITK exceptions raised while reading ``path`` into a `DataError`; mutes warnings."""
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
    """Context manager that discards stderr output of C code; some ITK libraries print even with warnings disabled."""
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
    """Last line with letters of an ITK error message, which contains the reason."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalpha, line))]
    return lines[-1].removeprefix("sitk::ERROR: ").rstrip(" .!") if lines else type(error).__name__


def damaged(path: Path, reason: str) -> DataError:
    """Build the error for a file that cannot be read.

    Args:
        path: the file.
        reason: what is wrong with the file.
    """
    return DataError(f"{path}: cannot be read ({reason}); copy or export it again")


def geometry_of(image: sitk.Image | sitk.ImageFileReader) -> Geometry:
    """Return the geometry of an ITK image or file header, in array axis order; axes after the third are dropped."""
    size = image.GetSize()
    dims = min(len(size), 3)
    direction = np.reshape(image.GetDirection(), (len(size), len(size)))
    return Geometry(
        shape=tuple(int(n) for n in size[:dims][::-1]),
        spacing_mm=tuple(float(s) for s in image.GetSpacing()[:dims][::-1]),
        origin_mm=tuple(float(o) for o in image.GetOrigin()[:dims]),
        direction=direction[:dims, :dims][:, ::-1],
    )


@contextmanager
def encodable(path: Path, write: bool = False) -> Iterator[str]:
    """Yield a name of a file or folder that ITK can use; ITK aborts the process at a name that is not UTF-8.

    Args:
        path: the file or folder.
        write: whether the file is to be written; it is moved to ``path`` at the end.
    """
    try:
        str(path).encode()
        yield str(path)
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            other = Path(folder) / f"image{''.join(Path(readable(path.name)).suffixes)}"
            if write:
                yield str(other)
                shutil.move(other, path)
            elif readable(path.name) == path.name:  # a link to its folder, which may hold further files of the image
                (Path(folder) / "images").symlink_to(path.parent.absolute())
                yield str(Path(folder) / "images" / path.name)
            else:
                other.symlink_to(path.absolute())
                yield str(other)


def to_itk(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """Convert one channel ``(*S)`` with its geometry to an ITK image."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction[:, ::-1].ravel().tolist())
    return image
