"""Sort the slices of a DICOM series and compute the geometry of the volume, from the headers alone.

Slices are sorted by their position along the normal of the image plane; instance numbers, file names and SliceLocation
are not reliable. The slice spacing is computed from the positions too, because it differs from SliceThickness in
overlapping reconstructions (DICOM PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cphloc.errors import CphlocError, DataError, InputError
from cphloc.structures.geometry import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset


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
        DataError: a required tag is missing, or the file is a multi-frame image without a position per frame.
    """
    with parsing(path):
        if "PerFrameFunctionalGroupsSequence" in header:
            count = len(header.PerFrameFunctionalGroupsSequence)
            return [_enhanced(path, header, frame) for frame in range(count)]
        frames = int(header.get("NumberOfFrames", 1) or 1)
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
    spacing = tag("PixelSpacing") or tag("ImagerPixelSpacing")
    if (position is None) != (orientation is None) or (position is not None and not spacing):
        tags = {"ImagePositionPatient": position, "ImageOrientationPatient": orientation, "PixelSpacing": spacing}
        lacking = ", ".join(name for name, value in tags.items() if not value)
        msg = f"{path}: lacks the tag {lacking}, so its position in the patient is unknown; export it again"
        raise DataError(msg)
    spacing_mm = (float(spacing[0]), float(spacing[1])) if spacing else None
    placement = None
    if position and orientation and spacing_mm is not None:
        vectors = np.reshape(np.array(orientation, float), (2, 3))
        placement = Placement(np.array(position, float), vectors, spacing_mm)
    slope, intercept = (default if tag(n) is None else float(tag(n)) for n, default in _RESCALE.items())
    numbers = [slope, intercept] if placement is None else [placement.position, placement.orientation, slope, intercept]
    if not all(np.isfinite(n).all() for n in numbers) or slope == 0:
        msg = f"{path}: position, orientation, rescale slope or intercept is not a valid number; export it again"
        raise DataError(msg)
    return Slice(path, frame, header, spacing_mm, placement, slope, intercept)


def sort_slices(source: Path, slices: Sequence[Slice]) -> list[Slice]:
    """Sort the slices of one series by their position along the normal of the image plane.

    Args:
        source: file or folder of the series, for error messages.
        slices: the slices, in any order.

    Raises:
        DataError: slices have no position, differ in size, pixel spacing or orientation, or are duplicated or missing.
    """
    for what, of in _ALIKE.items():
        groups = Counter(of(s) for s in slices)
        if len(groups) > 1:
            examples = [next(s.name for s in slices if of(s) == key) for key in groups]
            counts = ", ".join(f"{n} like {e}" for e, n in zip(examples, groups.values(), strict=True))
            msg = f"{source}: slices of different {what} in one series ({counts}); move them to separate folders"
            raise DataError(msg)
    if len(slices) == 1:
        return list(slices)
    normal = _placements(source, slices)[0].normal
    along = [float(p.position @ normal) for p in _placements(source, slices)]
    slices = [slices[i] for i in sorted(range(len(slices)), key=along.__getitem__)]
    _check_distances(source, slices)
    return slices


def _size(plane: Slice) -> tuple[object, ...]:
    return int(plane.header.Rows), int(plane.header.Columns)


def _rounded_spacing(plane: Slice) -> tuple[object, ...]:
    return tuple(np.round(plane.spacing_mm or (), 3))


def _rounded_orientation(plane: Slice) -> tuple[object, ...]:
    return () if plane.placement is None else tuple((np.round(plane.placement.orientation, 2) + 0.0).ravel())


_ALIKE = {"sizes": _size, "pixel spacings": _rounded_spacing, "orientations": _rounded_orientation}
"""Properties that all slices of a series must share: plural name for messages -> function of a slice."""
_RESCALE = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}
"""Tags of the linear rescaling -> default where a file lacks them."""


def _placements(source: Path, slices: Sequence[Slice]) -> list[Placement]:
    placements = [s.placement for s in slices if s.placement is not None]
    if len(placements) < len(slices):
        msg = f"{source}: {len(slices)} images without a position in space, such as mammograms; pass one file"
        raise DataError(msg)
    return placements


def _check_distances(source: Path, slices: Sequence[Slice]) -> None:
    """Raise an error for sorted slices at the same position or with gaps that differ by more than 1 %."""
    placements = _placements(source, slices)
    places = np.array([p.position for p in placements]) @ placements[0].normal
    gaps = np.diff(places)
    doubled = np.flatnonzero(gaps < max(1e-3, 0.01 * float(np.median(gaps))))
    if len(doubled):
        first, second = slices[doubled[0]], slices[doubled[0] + 1]
        hint = "remove one"
        if len(doubled) >= len(slices) // 2:
            hint = "the series has several images per position (time points, echoes); export only one of them"
        msg = f"{source}: {first.name} and {second.name} are at the same position {places[doubled[0]]:.2f} mm; {hint}"
        raise DataError(msg)
    spacing = float(np.median(gaps))
    uneven = np.flatnonzero(np.abs(gaps - spacing) > 0.01 * spacing)
    if len(uneven):
        k = int(uneven[0])
        missing = float(gaps[k]) / spacing - 1
        what = f"{round(missing)} missing" if missing > 0.5 and abs(missing - round(missing)) < 0.05 else "uneven"
        msg = (
            f"{source}: slices {what} between {slices[k].name} at {places[k]:.2f} mm and {slices[k + 1].name} at "
            f"{places[k + 1]:.2f} mm, where the median slice spacing is {spacing:.2f} mm; export the whole series again"
        )
        raise DataError(msg)


def stack_grid(source: Path, slices: Sequence[Slice]) -> Geometry:
    """Compute the geometry of sorted slices: 3-D, or 2-D for a single slice.

    Args:
        source: file or folder of the series, for error messages.
        slices: the slices, in the order of `sort_slices`.

    Raises:
        DataError: the stack is sheared, as with a tilted gantry.
    """
    first = slices[0]
    shape = (int(first.header.Rows), int(first.header.Columns))
    if len(slices) == 1:
        return Geometry.regular(shape, first.spacing_mm, "mm" if first.spacing_mm else "px")
    placements = _placements(source, slices)
    start, end = placements[0], placements[-1]
    offsets = np.array([p.position for p in placements]) - start.position
    lateral = np.linalg.norm(offsets - np.outer(offsets @ start.normal, start.normal), axis=1).max()
    if lateral > 0.1 * min(start.spacing_mm):
        degrees = np.degrees(np.arctan2(lateral, offsets[-1] @ start.normal))
        msg = f"{source}: slices are shifted by up to {lateral:.1f} mm (a gantry tilt of {degrees:.1f}°?); resample it"
        raise DataError(msg)
    distance = float((end.position - start.position) @ start.normal) / (len(slices) - 1)
    along_columns, along_rows = start.orientation
    try:
        return Geometry(
            (len(slices), *shape),
            (distance, *start.spacing_mm),
            tuple(start.position.tolist()),
            np.stack([start.normal, along_rows, along_columns], axis=1),
        )
    except InputError as error:
        msg = f"{source}: {' '.join(str(error).split())}; export the series again"
        raise DataError(msg) from error
