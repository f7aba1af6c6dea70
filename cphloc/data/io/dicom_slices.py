"""Read what the header of a DICOM image says about each of its planes: place, pixel size and rescaling."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cphloc.data.io.dicom_spacing import pixel_spacing
from cphloc.errors import CphlocError, DataError

if TYPE_CHECKING:
    from pydicom import Dataset

PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
"""SOP class of images whose values are defined by a RealWorldValueMappingSequence instead of a rescale slope."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Position, orientation and pixel spacing of an image plane in patient coordinates.

    Args:
        position: ``(3,)`` centre of the first pixel in LPS coordinates, in mm.
        orientation: ``(2, 3)`` unit vectors along increasing column index and increasing row index.
        spacing_mm: ``(row, column)`` spacing of pixel centres.
    """

    position: np.ndarray
    orientation: np.ndarray
    spacing_mm: tuple[float, float]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector ``(3,)`` perpendicular to the plane: cross product of the row and the column direction."""
        return np.cross(self.orientation[0], self.orientation[1])


@dataclass(frozen=True, eq=False)
class Slice:
    """One image plane: a single-frame file, or one frame of an enhanced multi-frame file.

    Args:
        path: the file.
        frame: index of the frame, from 0; 0 in a single-frame file.
        header: DICOM data set of the file, without pixel data.
        spacing_mm: ``(row, column)`` spacing of pixel centres; ``None`` where the header has no pixel spacing.
        placement: position in patient coordinates; ``None`` for a projection such as a mammogram or radiograph.
        slope: factor that stored values are multiplied by (RescaleSlope).
        intercept: constant added after the multiplication (RescaleIntercept).
    """

    path: Path
    frame: int
    header: Dataset
    spacing_mm: tuple[float, float] | None
    placement: Placement | None
    slope: float
    intercept: float

    @property
    def name(self) -> str:
        """File name, followed by the frame number, from 1, in a multi-frame file."""
        return self.path.name if "NumberOfFrames" not in self.header else f"{self.path.name} frame {self.frame + 1}"


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Context manager that converts any exception raised while parsing ``path`` into a `DataError` with the file name.

    pydicom raises exceptions of many types for damaged files. Its warnings about values outside the DICOM standard are
    suppressed; the tags that are needed are checked separately.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (CphlocError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic in a decoder written in Rust derives from BaseException only
        reason = " ".join(str(error).split()) or type(error).__name__
        msg = f"{path}: cannot be read as DICOM ({reason[:200]}); copy or export it again"
        raise DataError(msg) from error


def slices_of(path: Path, header: Dataset) -> list[Slice]:
    """List the image planes of one file: one, or one per frame of an enhanced multi-frame file.

    Args:
        path: the file.
        header: DICOM data set of the file.

    Raises:
        DataError: a required tag is missing, or the file is a multi-frame image without a position per frame, or a
            mosaic of several slices in one picture.
    """
    with parsing(path):
        if "MOSAIC" in (header.get("ImageType") or ()):
            msg = f"{path}: is a mosaic, several slices side by side in one picture; convert it to NIfTI with dcm2niix"
            raise DataError(msg)
        frames = int(header.get("NumberOfFrames", 1) or 1)
        if "PerFrameFunctionalGroupsSequence" in header:
            count = len(header.PerFrameFunctionalGroupsSequence)
            if count != frames:
                msg = f"{path}: describes {count} frames but has {frames}; copy or export it again"
                raise DataError(msg)
            return [_enhanced(path, header, frame) for frame in range(count)]
        if frames > 1:
            msg = f"{path}: has {frames} frames without positions (a cine or time series); pass a single frame"
            raise DataError(msg)
        return [_plane(path, 0, header, header.get)]


def _enhanced(path: Path, header: Dataset, frame: int) -> Slice:
    """One frame of an enhanced file; tags are looked up in its per-frame, then in the shared functional groups."""
    groups = [header.PerFrameFunctionalGroupsSequence[frame], *header.get("SharedFunctionalGroupsSequence", [])]
    items = [element.value[0] for group in groups for element in group if element.VR == "SQ" and element.value]

    def tag(name: str) -> Any:
        """Return the value of a keyword: of the frame's groups, else of the header."""
        return next((item[name].value for item in items if name in item), header.get(name))

    return _plane(path, frame, header, tag)


def _plane(path: Path, frame: int, header: Dataset, tag: Callable[[str], Any]) -> Slice:
    """Build a slice from its header; ``tag`` returns the value of a DICOM keyword, ``None`` where it is absent."""
    position, orientation = tag("ImagePositionPatient"), tag("ImageOrientationPatient")
    spacing_mm = pixel_spacing(path, header, tag)
    if (not position) != (not orientation) or (position and not spacing_mm):
        tags = {"ImagePositionPatient": position, "ImageOrientationPatient": orientation, "PixelSpacing": spacing_mm}
        lacking = ", ".join(name for name, value in tags.items() if not value)
        msg = f"{path}: lacks the tag {lacking}, so its position in the patient is unknown; export it again"
        raise DataError(msg)
    placement = None
    if position and orientation and spacing_mm is not None:
        vectors = np.reshape(np.array(orientation, float), (2, 3))
        placement = Placement(np.array(position, float), vectors, spacing_mm)
    slope, intercept = _rescaling(path, header, tag)
    numbers = [slope, intercept] if placement is None else [placement.position, placement.orientation, slope, intercept]
    if not all(np.isfinite(n).all() for n in numbers) or slope == 0:
        msg = f"{path}: position, orientation, rescale slope or intercept is not a valid number; export it again"
        raise DataError(msg)
    return Slice(path, frame, header, spacing_mm, placement, slope, intercept)


def _rescaling(path: Path, header: Dataset, tag: Callable[[str], Any]) -> tuple[float, float]:
    """Slope and intercept from stored to real values; 1 and 0 where the file states none."""
    names = ("RescaleSlope", "RescaleIntercept")
    if header.get("SOPClassUID") == PARAMETRIC_MAP and (
        header.get("RealWorldValueMappingSequence") or tag("RealWorldValueSlope") is not None
    ):
        mapping = (header.get("RealWorldValueMappingSequence") or [header])[0]
        names = ("RealWorldValueSlope", "RealWorldValueIntercept")
        if (mapping.get("RealWorldValueLUTData") or tag("RealWorldValueLUTData")) is not None:
            msg = f"{path}: maps its values by a table (RealWorldValueLUTData); convert it to a map of floats"
            raise DataError(msg)
        slope, intercept = (mapping.get(name) if tag(name) is None else tag(name) for name in names)
    else:
        slope, intercept = map(tag, names)
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
