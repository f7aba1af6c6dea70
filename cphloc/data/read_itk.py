"""NIfTI, NRRD and MetaImage by SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cphloc.data.itk import array_of, geometry_of
from cphloc.data.volume import Volume
from cphloc.errors import DataError, InputError


def read_itk(path: Path) -> Volume:
    """Read a NIfTI, NRRD or MetaImage file.

    Raises:
        DataError: damaged, not of the format its name says, or a series of volumes.
    """
    import SimpleITK as sitk

    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
        while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
            image = image[..., 0]
        if image.GetDimension() > 3:
            msg = f"{path}: is a series of {image.GetSize()[-1]} volumes; split it and give one file per channel"
            raise DataError(msg)
        geometry, array = geometry_of(image), array_of(image)
    except (RuntimeError, MemoryError) as error:
        reason = str(error).strip().splitlines()[-1].removeprefix("sitk::ERROR: ")
        msg = f"{path}: cannot be read ({reason}); copy or export it again"
        raise DataError(msg) from error
    except InputError as error:
        msg = f"{path}: {error}" if str(path) not in str(error) else str(error)
        raise DataError(msg) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return Volume(array, geometry, None, str(path))
