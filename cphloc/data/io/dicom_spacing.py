"""Find the pixel size of a DICOM image in the tags of its modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cphloc.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

_TWO_DIMENSIONAL = 1
"""RegionSpatialFormat of a picture of tissue; the others are M-mode, spectra, waveforms and graphics."""
_CENTIMETRES = 3
"""PhysicalUnitsXDirection and PhysicalUnitsYDirection of a length (DICOM PS3.3 C.8.5.5.1.15)."""
_SAME = 0.01
"""Largest relative difference of two statements of one pixel size."""


def pixel_spacing(path: Path, header: Dataset, tag: Callable[[str], Any]) -> tuple[float, float] | None:
    """Return the ``(row, column)`` spacing of pixel centres in mm, or ``None`` where the file does not state it.

    The first of these that is present: PixelSpacing or the regions of an ultrasound image; ImagerPixelSpacing, divided
    by EstimatedRadiographicMagnificationFactor, which converts it from the detector to the patient; and
    NominalScannedPixelSpacing of a digitized film.

    Args:
        path: the file, for error messages.
        header: DICOM data set of the file.
        tag: returns the value of a keyword, of a frame or else of the file; ``None`` where it is absent.

    Raises:
        DataError: a spacing is not two positive numbers, or the file states several pixel sizes.
    """
    stated = _stated(path, "PixelSpacing", tag)
    regions = _region_spacing(path, header)
    if stated and regions and not np.allclose(stated, regions, rtol=_SAME):
        msg = f"{path}: PixelSpacing {stated} differs from {regions} mm of its ultrasound regions; correct one of them"
        raise DataError(msg)
    if regions or stated:
        return regions or stated
    detector = _stated(path, "ImagerPixelSpacing", tag)
    if detector:
        magnification = float(tag("EstimatedRadiographicMagnificationFactor") or 1)
        if not magnification > 0:
            msg = f"{path}: EstimatedRadiographicMagnificationFactor is {magnification:g}; it must be above 0"
            raise DataError(msg)
        return detector[0] / magnification, detector[1] / magnification
    return _stated(path, "NominalScannedPixelSpacing", tag)


def pixel_aspect(path: Path, header: Dataset) -> float:
    """Return height / width of a pixel, from PixelAspectRatio; 1 where the file does not state it.

    Raises:
        DataError: it is not two positive numbers.
    """
    height, width = _stated(path, "PixelAspectRatio", header.get) or (1.0, 1.0)
    return height / width


def _stated(path: Path, name: str, tag: Callable[[str], Any]) -> tuple[float, float] | None:
    """Value of a tag of two positive numbers; ``None`` where it is absent or empty."""
    value: Any = tag(name)
    if value is None or value == "" or (isinstance(value, Sequence) and not len(value)):
        return None
    numbers = list(map(float, value)) if isinstance(value, Sequence) and not isinstance(value, str) else [float(value)]
    if len(numbers) != 2 or not all(np.isfinite(n) and n > 0 for n in numbers):
        msg = f"{path}: {name} is {value}; a spacing must be positive, for rows and columns; correct or remove the tag"
        raise DataError(msg)
    return numbers[0], numbers[1]


def _region_spacing(path: Path, header: Dataset) -> tuple[float, float] | None:
    """Pixel size of the tissue regions of an ultrasound image (SequenceOfUltrasoundRegions)."""
    found = [
        (10 * abs(float(region.PhysicalDeltaY)), 10 * abs(float(region.PhysicalDeltaX)))
        for region in header.get("SequenceOfUltrasoundRegions") or ()
        if region.get("RegionSpatialFormat") == _TWO_DIMENSIONAL
        and region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == _CENTIMETRES
    ]
    if not found:
        return None
    if not np.allclose(found, found[0], rtol=_SAME) or not min(found[0]) > 0:
        sizes = ", ".join(f"{row:.4g} x {column:.4g} mm" for row, column in found)
        msg = f"{path}: has ultrasound regions of different pixel sizes ({sizes}); crop it to one region"
        raise DataError(msg)
    return found[0]
