"""An image with its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry


@dataclass(frozen=True)
class Scan:
    """What the file of an image states about the scan; ``None`` where it does not.

    Args:
        unit: unit of the voxel values, a name of `cphloc.structures.units.UNITS` or another that the file uses.
        frame: FrameOfReferenceUID; images with different ones share no coordinates.
        patient: identifier of the patient.
        date: day of the acquisition.
    """

    unit: str | None = None
    frame: str | None = None
    patient: str | None = None
    date: date | None = None


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels of one image, their grid, and where they came from.

    Args:
        array: ``(C, *S)`` as stored: Hounsfield units for CT, the file's own scale otherwise.
        geometry: grid of the ``*S`` voxels.
        modality: DICOM modality (``CT``, ``PT``, ``MG`` ...), or ``None`` where the file does not say.
        source: file, folder or ``array``; messages name it.
        window: ``(center, width)`` the file proposes for display, in the units of ``array``.
        scan: what the file states about unit, frame of reference, patient and date.
        notes: remarks for the user, such as which files of a folder were left out, one line each.

    Raises:
        DataError: the array is not ``(C, *geometry.shape)``.

    >>> Volume(np.zeros((1, 4, 5)), Geometry.regular((4, 5))).channels
    1
    """

    array: np.ndarray
    geometry: Geometry
    modality: str | None = None
    source: str = "array"
    window: tuple[float, float] | None = None
    scan: Scan = Scan()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.array.ndim != self.dims + 1 or self.array.shape[1:] != self.geometry.shape:
            msg = f"{self.source}: array of shape {self.array.shape} does not fit a grid of {self.geometry.shape}"
            raise DataError(msg)

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return self.geometry.dims

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return len(self.array)

    def canonical(self) -> Volume:
        """The same image in the axis order and direction of `Geometry.canonical`; a view, no copy."""
        order, flip = self.geometry.canonical()
        return replace(self, array=reoriented(self.array, order, flip), geometry=self.geometry.reoriented(order, flip))

    def crop(self, start: tuple[int, ...], shape: tuple[int, ...]) -> Volume:
        """The ``shape`` voxels that begin at index ``start``; a view, no copy.

        Raises:
            DataError: the crop reaches outside the image.
        """
        stop = tuple(a + n for a, n in zip(start, shape, strict=True))
        if min(start) < 0 or any(b > n for b, n in zip(stop, self.geometry.shape, strict=True)):
            msg = f"{self.source}: crop {start} to {stop} reaches outside the image of {self.geometry.shape} voxels"
            raise DataError(msg)
        inside = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        return replace(self, array=self.array[:, *inside], geometry=self.geometry.crop(start, shape))


def reoriented(array: np.ndarray, order: tuple[int, ...], flip: tuple[int, ...]) -> np.ndarray:
    """Permute and flip the last ``len(order)`` axes of ``array``, as `Geometry.reoriented` does the grid; a view."""
    leading = array.ndim - len(order)
    moved = np.transpose(array, (*range(leading), *(a + leading for a in order)))
    return np.flip(moved, tuple(a + leading for a in flip))


def reoriented_back(array: np.ndarray, order: tuple[int, ...], flip: tuple[int, ...]) -> np.ndarray:
    """Undo `reoriented`; a view."""
    leading = array.ndim - len(order)
    moved = np.flip(array, tuple(a + leading for a in flip))
    return np.transpose(moved, (*range(leading), *(int(a) + leading for a in np.argsort(order))))
