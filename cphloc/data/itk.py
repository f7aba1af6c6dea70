"""Between SimpleITK images and NumPy arrays with a `Geometry`.

ITK counts axes x, y, z and arrays z, y, x; both place voxel centres in LPS millimetres, so only the order changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cphloc.geometry import Geometry

if TYPE_CHECKING:
    import SimpleITK as sitk


def geometry_of(image: sitk.Image | sitk.ImageFileReader) -> Geometry:
    """Grid of an ITK image, or of the file whose header a reader has read."""
    size = image.GetSize()
    dims = len(size)
    return Geometry(
        shape=tuple(int(n) for n in reversed(size)),
        spacing_mm=tuple(float(s) for s in reversed(image.GetSpacing())),
        origin_mm=tuple(float(o) for o in image.GetOrigin()),
        direction=np.reshape(image.GetDirection(), (dims, dims))[:, ::-1],
    )


def array_of(image: sitk.Image) -> np.ndarray:
    """Voxels of an ITK image as ``(C, *S)``."""
    import SimpleITK as sitk

    array = sitk.GetArrayFromImage(image)
    return np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]


def to_itk(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """ITK image of one channel ``(*S)`` on ``geometry``."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    place(image, geometry)
    return image


def place(image: sitk.Image | sitk.ResampleImageFilter, geometry: Geometry) -> None:
    """Give an ITK image the spacing, origin and direction of ``geometry``."""
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction[:, ::-1].ravel().tolist())
