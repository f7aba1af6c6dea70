"""Sort the slices of a DICOM series and compute the geometry of the volume, from the headers alone.

Slices are sorted by their position along the normal of the image plane; instance numbers, file names and SliceLocation
are not reliable. The slice spacing is computed from the positions too, because it differs from SliceThickness in
overlapping reconstructions (DICOM PS3.3 C.7.6.2.1.1). Many writers round positions to tenths or hundredths of a
millimetre and directions to two or three decimals; the tolerances below follow from the decimals that a series has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cphloc.data.io.dicom_slices import Placement, Slice
from cphloc.data.io.dicom_spacing import pixel_aspect
from cphloc.errors import DataError, InputError
from cphloc.structures.geometry import Geometry

_UNEVEN = 0.01
"""Largest difference of two gaps between slices, as a fraction of the slice spacing, beside what rounding explains."""
_ROUNDED = 0.2
"""The same where it may come from rounded positions: a fifth of a slice is never a missing one."""
_LATERAL = 0.1
"""Largest shift of a slice within its plane, as a fraction of a pixel, beside what rounded directions explain."""


def sort_slices(source: Path, slices: Sequence[Slice]) -> list[Slice]:
    """Sort the slices of one series by their position along the normal of the image plane.

    Args:
        source: file or folder of the series, for error messages.
        slices: the slices, in any order.

    Raises:
        DataError: slices have no position, differ in size, pixel spacing or orientation, or are duplicated or missing.
    """
    for name, what in _SHARED.items():
        values = {str(value): plane.name for plane in slices if (value := plane.header.get(name))}
        if len(values) > 1:
            listed = ", ".join(f"'{value}' in {file}" for value, file in list(values.items())[:2])
            msg = f"{source}: slices of different {what} in one series ({listed}); move them to separate folders"
            raise DataError(msg)
    for what, (of, tolerance) in _ALIKE.items():
        groups = _alike(slices, of, tolerance)
        if len(groups) > 1:
            counts = ", ".join(f"{len(group)} like {group[0].name}" for group in groups)
            msg = f"{source}: slices of different {what} in one series ({counts}); move them to separate folders"
            raise DataError(msg)
    if len(slices) == 1:
        return list(slices)
    normal = _placements(source, slices)[0].normal
    along = [float(p.position @ normal) for p in _placements(source, slices)]
    slices = [slices[i] for i in sorted(range(len(slices)), key=along.__getitem__)]
    _check_distances(source, slices)
    return slices


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
        if first.spacing_mm is None:
            return Geometry.regular(shape, (pixel_aspect(first.path, first.header), 1.0), "px")
        if first.placement is None:
            return Geometry.regular(shape, first.spacing_mm)
        return _plane(source, shape, first.placement)
    placements = _placements(source, slices)
    start, end = placements[0], placements[-1]
    _check_tilt(source, placements)
    step = (end.position - start.position) / (len(slices) - 1)
    along_columns, along_rows = start.orientation
    try:
        return Geometry(
            (len(slices), *shape),
            (float(np.linalg.norm(step)), *start.spacing_mm),
            tuple(start.position.tolist()),
            _orthonormal(step, along_rows, along_columns),
        )
    except InputError as error:
        msg = f"{source}: {' '.join(str(error).split())}; export the series again"
        raise DataError(msg) from error


def _plane(source: Path, shape: tuple[int, int], placement: Placement) -> Geometry:
    """2-D grid of one slice at its place in the patient."""
    along_columns, along_rows = placement.orientation
    direction = _orthonormal(placement.normal, along_rows, along_columns)
    try:
        grid = Geometry((1, *shape), (1.0, *placement.spacing_mm), tuple(placement.position.tolist()), direction)
    except InputError as error:
        msg = f"{source}: {' '.join(str(error).split())}; export the image again"
        raise DataError(msg) from error
    return grid.plane(0)


def _alike(slices: Sequence[Slice], of: Callable[[Slice], Sequence[float]], tolerance: float) -> list[list[Slice]]:
    """Group slices whose property differs from that of the first of their group by at most ``tolerance``."""
    groups: list[tuple[np.ndarray, list[Slice]]] = []
    for one in slices:
        value = np.asarray(of(one), float)
        fitting = (g for v, g in groups if v.shape == value.shape and (np.abs(v - value) <= tolerance).all())
        group = next(fitting, None)
        if group is None:
            groups.append((value, [one]))
        else:
            group.append(one)
    return [group for _, group in groups]


def _size(plane: Slice) -> tuple[float, ...]:
    return int(plane.header.Rows), int(plane.header.Columns)


def _spacing(plane: Slice) -> tuple[float, ...]:
    return plane.spacing_mm or ()


def _orientation(plane: Slice) -> tuple[float, ...]:
    return () if plane.placement is None else tuple(plane.placement.orientation.ravel().tolist())


_SHARED = {
    "PatientID": "patients",
    "Modality": "modalities",
    "FrameOfReferenceUID": "frames of reference",
    "Units": "units",
}
"""Tags that all slices of a series which state them must share -> plural name for messages."""
_ALIKE: dict[str, tuple[Callable[[Slice], Sequence[float]], float]] = {
    "sizes": (_size, 0),
    "pixel spacings": (_spacing, 1e-3),
    "orientations": (_orientation, 0.011),
}
"""Properties that all slices of a series must share: plural name for messages -> (function, largest difference)."""


def _placements(source: Path, slices: Sequence[Slice]) -> list[Placement]:
    placements = [s.placement for s in slices if s.placement is not None]
    if len(placements) < len(slices):
        msg = f"{source}: {len(slices)} images without a position in space, such as mammograms; pass one file"
        raise DataError(msg)
    return placements


def _check_distances(source: Path, slices: Sequence[Slice]) -> None:
    """Raise an error for sorted slices at the same position or with gaps that rounding does not explain."""
    placements = _placements(source, slices)
    positions = np.array([p.position for p in placements])
    places = positions @ placements[0].normal
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
    off = np.abs(gaps - spacing)
    uneven = np.flatnonzero(off > _UNEVEN * spacing)
    if (off <= _ROUNDED * spacing).all() and _evenly_placed(positions):
        uneven = uneven[:0]
    if len(uneven):
        k = int(uneven[0])
        missing = float(gaps[k]) / spacing - 1
        what = f"{round(missing)} missing" if missing > 0.5 and abs(missing - round(missing)) < 0.05 else "uneven"
        msg = (
            f"{source}: slices {what} between {slices[k].name} at {places[k]:.2f} mm and {slices[k + 1].name} at "
            f"{places[k + 1]:.2f} mm, where the median slice spacing is {spacing:.2f} mm; export the whole series again"
        )
        raise DataError(msg)


def _evenly_placed(positions: np.ndarray) -> bool:
    """Return True for positions ``(n, 3)`` that are evenly spaced on a line before rounding to their decimals.

    Whole numbers do not count as rounded, because slices are rarely rounded to a millimetre.
    """
    index = np.arange(len(positions))
    for along in positions.T:
        decimals = _decimals(along)
        # Half a unit is lost by rounding; the fitted line is off by a part of that itself.
        tolerance = 0.75 * 10.0**-decimals if decimals else 1e-6
        fitted = np.polynomial.Polynomial.fit(index, along, 1)(index)
        if np.abs(along - fitted).max() > tolerance:
            return False
    return True


def _decimals(values: np.ndarray, most: int = 6) -> int:
    """Number of decimals that all values are rounded to, at most ``most``."""
    return next((d for d in range(most) if np.abs(values - values.round(d)).max() < 1e-7), most)


def _check_tilt(source: Path, placements: Sequence[Placement]) -> None:
    """Raise an error for slices that are shifted within their plane by more than rounded directions explain."""
    start = placements[0]
    offsets = np.array([p.position for p in placements]) - start.position
    along = offsets @ start.normal / np.linalg.norm(start.normal)
    lateral = np.linalg.norm(offsets - np.outer(along, start.normal / np.linalg.norm(start.normal)), axis=1)
    decimals = _decimals(start.orientation)
    angle = 10.0**-decimals if decimals >= 2 else 0.0
    furthest = int(np.argmax(lateral))
    if lateral[furthest] > _LATERAL * min(start.spacing_mm) + angle * along.max():
        degrees = np.degrees(np.arctan2(lateral[-1], along[-1]))
        msg = (
            f"{source}: slices are shifted by up to {lateral[furthest]:.1f} mm (a gantry tilt of {degrees:.1f}°?); "
            "resample it"
        )
        raise DataError(msg)


def _orthonormal(step: np.ndarray, along_rows: np.ndarray, along_columns: np.ndarray) -> np.ndarray:
    """Nearest orthonormal matrix ``(3, 3)``, one axis per column, to directions that are rounded.

    The step between slices, measured over the whole stack, is more exact than rounded directions. Directions that are
    not perpendicular to each other within a hundredth are returned as they are, which `Geometry` refuses.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        vectors = np.stack([v / np.linalg.norm(v) for v in (step, along_rows, along_columns)], axis=1)
    if not np.abs(vectors.T @ vectors - np.eye(3)).max() <= 0.02:  # also where a direction has no length
        return vectors
    slices = vectors[:, :1]
    rows, _, columns = np.linalg.svd(vectors[:, 1:] - slices @ (slices.T @ vectors[:, 1:]), full_matrices=False)
    return np.concatenate([slices, rows @ columns], axis=1)
