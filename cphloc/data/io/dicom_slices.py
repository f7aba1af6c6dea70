"""From DICOM headers to an ordered stack of slices and its grid.

Slices are ordered by their position along the normal, row direction x column direction; instance numbers, file names
and SliceLocation say nothing reliable. The distance between slices comes from the positions too: SliceThickness differs
from it in overlapping reconstructions (DICOM PS3.3 C.7.6.2.1.1).
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
class Slice:
    """One image plane: a file, or one frame of an enhanced multi-frame file.

    Args:
        path: the file.
        frame: index of the frame, 0 for a file of one.
        header: the file's data set, without pixels.
        spacing_mm: ``(row, column)`` distance of pixels, or ``None`` where no tag says.
        position: LPS mm of the first pixel's centre, or ``None`` for a projection (mammogram, radiograph).
        orientation: ``(2, 3)`` unit vectors along increasing column and row index, with ``position``.
        slope: stored value to unit.
        intercept: added after the slope.
    """

    path: Path
    frame: int
    header: Dataset
    spacing_mm: tuple[float, float] | None
    position: np.ndarray | None
    orientation: np.ndarray | None
    slope: float
    intercept: float

    @property
    def normal(self) -> np.ndarray:
        """Unit vector through the slices."""
        return np.cross(*self.orientation)

    @property
    def name(self) -> str:
        """File name, with the frame where the file has several."""
        return self.path.name if "NumberOfFrames" not in self.header else f"{self.path.name} frame {self.frame + 1}"


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a damaged DICOM file into one `DataError`; pydicom raises nearly every type.

    Its warnings about values that bend the standard are silenced: what matters is checked and raised.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (CphlocError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of a decoder written in Rust is no Exception
        reason = " ".join(str(error).split()) or type(error).__name__
        msg = f"{path}: cannot be read as DICOM ({reason[:200]}); copy or export it again"
        raise DataError(msg) from error


def slices_of(path: Path, header: Dataset) -> list[Slice]:
    """Planes of one file.

    Raises:
        DataError: a tag that is needed is missing, or the file is a cine without positions.
    """
    with parsing(path):
        if "PerFrameFunctionalGroupsSequence" in header:
            count = len(header.PerFrameFunctionalGroupsSequence)
            return [_enhanced(path, header, frame) for frame in range(count)]
        frames = int(header.get("NumberOfFrames", 1) or 1)
        if frames > 1:
            msg = f"{path}: holds {frames} frames without positions (a cine or time series); give a single frame"
            raise DataError(msg)
        return [_plane(path, 0, header, header.get)]


def _enhanced(path: Path, header: Dataset, frame: int) -> Slice:
    """A frame whose tags lie in functional groups: its own, or those that all frames share."""
    groups = [header.PerFrameFunctionalGroupsSequence[frame], *header.get("SharedFunctionalGroupsSequence", [])]
    items = [element.value[0] for group in groups for element in group if element.VR == "SQ" and element.value]

    def tag(name: str) -> Any:
        return next((item[name].value for item in items if name in item), header.get(name))

    return _plane(path, frame, header, tag)


def _plane(path: Path, frame: int, header: Dataset, tag: Callable[[str], Any]) -> Slice:
    position, orientation = tag("ImagePositionPatient"), tag("ImageOrientationPatient")
    spacing = tag("PixelSpacing") or tag("ImagerPixelSpacing")
    if (position is None) != (orientation is None) or (position is not None and not spacing):
        tags = {"ImagePositionPatient": position, "ImageOrientationPatient": orientation, "PixelSpacing": spacing}
        lacking = ", ".join(name for name, value in tags.items() if not value)
        msg = f"{path}: lacks the tag {lacking}, so its place in the patient is unknown; export it again"
        raise DataError(msg)
    slope, intercept = tag("RescaleSlope"), tag("RescaleIntercept")
    plane = Slice(
        path,
        frame,
        header,
        tuple(float(s) for s in spacing) if spacing else None,
        np.array(position, float) if position else None,
        np.reshape(np.array(orientation, float), (2, 3)) if orientation else None,
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
    )
    numbers = [plane.position, plane.orientation, plane.slope, plane.intercept]
    if not all(np.isfinite(n).all() for n in numbers if n is not None) or plane.slope == 0:
        msg = f"{path}: position, orientation or rescale is not a usable number; export it again"
        raise DataError(msg)
    return plane


def ordered(source: Path, slices: Sequence[Slice]) -> list[Slice]:
    """Slices of one series from the first to the last along their normal.

    Raises:
        DataError: slices without a position, of different sizes or orientations, doubled or missing.
    """
    for what, of in (
        ("sizes", lambda s: (int(s.header.Rows), int(s.header.Columns))),
        ("pixel spacings", lambda s: tuple(np.round(s.spacing_mm or (), 3))),
        ("orientations", lambda s: () if s.orientation is None else tuple((np.round(s.orientation, 2) + 0.0).ravel())),
    ):
        groups = Counter(of(s) for s in slices)
        if len(groups) > 1:
            examples = [next(s.name for s in slices if of(s) == key) for key in groups]
            counts = ", ".join(f"{n} like {e}" for e, n in zip(examples, groups.values(), strict=True))
            msg = f"{source}: slices of different {what} in one series ({counts}); move one kind to another folder"
            raise DataError(msg)
    if slices[0].position is None and len(slices) > 1:
        msg = f"{source}: {len(slices)} images without a position in space, such as mammograms; give one file"
        raise DataError(msg)
    if len(slices) > 1:
        slices = sorted(slices, key=lambda s: float(s.position @ slices[0].normal))
        _check_distances(source, slices)
    return list(slices)


def _check_distances(source: Path, slices: Sequence[Slice]) -> None:
    places = np.array([s.position for s in slices]) @ slices[0].normal
    gaps = np.diff(places)
    doubled = np.flatnonzero(gaps < max(1e-3, 0.01 * float(np.median(gaps))))
    if len(doubled):
        first, second = slices[doubled[0]], slices[doubled[0] + 1]
        hint = "remove one"
        if len(doubled) >= len(slices) // 2:
            hint = "the series holds several images per position (time points, echoes); export one of them alone"
        msg = f"{source}: {first.name} and {second.name} lie at the same position {places[doubled[0]]:.2f} mm; {hint}"
        raise DataError(msg)
    spacing = float(np.median(gaps))
    uneven = np.flatnonzero(np.abs(gaps - spacing) > 0.01 * spacing)
    if len(uneven):
        k = uneven[0]
        missing = gaps[k] / spacing - 1
        what = f"{round(missing)} missing" if missing > 0.5 and abs(missing - round(missing)) < 0.05 else "uneven"
        msg = (
            f"{source}: slices {what} between {slices[k].name} at {places[k]:.2f} mm and {slices[k + 1].name} at "
            f"{places[k + 1]:.2f} mm, where {spacing:.2f} mm is usual; export the series again, wholly"
        )
        raise DataError(msg)


def grid(source: Path, slices: Sequence[Slice]) -> Geometry:
    """Grid of ordered slices: 3-D, or a plane of its own for a single image.

    Raises:
        DataError: the stack is sheared, as with a tilted gantry.
    """
    first, last = slices[0], slices[-1]
    shape = (int(first.header.Rows), int(first.header.Columns))
    if len(slices) == 1:
        return Geometry.regular(shape, first.spacing_mm, "mm" if first.spacing_mm else "px")
    offsets = np.array([s.position for s in slices]) - first.position
    lateral = np.linalg.norm(offsets - np.outer(offsets @ first.normal, first.normal), axis=1).max()
    if lateral > 0.1 * min(first.spacing_mm):
        degrees = np.degrees(np.arctan2(lateral, offsets[-1] @ first.normal))
        msg = f"{source}: slices are shifted by up to {lateral:.1f} mm (a gantry tilt of {degrees:.1f}°?); resample it"
        raise DataError(msg)
    distance = float((last.position - first.position) @ first.normal) / (len(slices) - 1)
    along_columns, along_rows = first.orientation
    try:
        return Geometry(
            (len(slices), *shape),
            (distance, *first.spacing_mm),
            tuple(first.position.tolist()),
            np.stack([first.normal, along_rows, along_columns], axis=1),
        )
    except InputError as error:
        msg = f"{source}: {' '.join(str(error).split())}; export the series again"
        raise DataError(msg) from error
