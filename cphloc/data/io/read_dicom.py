"""Read a DICOM series from a folder or a single file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cphloc.data.io.dicom_folder import Series, find_series
from cphloc.data.io.dicom_pixels import display_window, read_pixels
from cphloc.data.io.dicom_slices import Slice, parsing, slices_of
from cphloc.data.io.dicom_stack import sort_slices, stack_grid
from cphloc.data.io.dicom_units import scan_of, suv_factor
from cphloc.structures.volume import Volume


def read_dicom(path: Path, series: str | None = None, unit: str | None = None) -> Volume:
    """Read one DICOM series as a 3-D volume, or as a 2-D image where it has a single slice.

    CT values are in Hounsfield units, others in the unit defined by the rescale slope and intercept of the file.

    Args:
        path: file, or folder that is searched recursively.
        series: SeriesInstanceUID; required where the folder contains several series besides scouts and secondary
            captures.
        unit: ``SUV`` converts a PET series by its tags; other values leave the unit as it is.

    Raises:
        DataError: there is no series, there are several and ``series`` is not given, the files are damaged or do not
            form a regular volume, or a PET series lacks the tags to convert it.
        MissingExtraError: the compression needs the optional dependencies ``cphloc[dicom]``.
    """
    found = find_series(path, series)
    slices = _sorted(path, found)
    first = slices[0]
    source = str(path) if series is None else f"{path}#{series}"
    modality, notes = first.header.get("Modality"), _notes(path, found)
    array, window, scan = read_pixels(slices), display_window(first), scan_of(slices)
    if unit == "SUV" and modality == "PT":
        factor = suv_factor(slices)
        array, scan = (array * factor).astype(np.float32), replace(scan, unit=unit)
        window = None if window is None else (window[0] * factor, window[1] * factor)
    return Volume(array, stack_grid(path, slices), modality, source, window, scan, notes)


def read_slices(path: Path, series: str | None = None) -> list[Slice]:
    """Read the headers of one series, sorted in the slice order of the volume that `read_dicom` returns.

    Args:
        path: file, or folder that is searched recursively.
        series: SeriesInstanceUID; required where the folder contains several series besides
            scouts and secondary captures.

    Raises:
        DataError: see `read_dicom`.
    """
    return _sorted(path, find_series(path, series))


def _sorted(path: Path, series: Series) -> list[Slice]:
    with parsing(path):  # values are converted where they are first used
        return sort_slices(path, [s for p, header in series.headers.items() for s in slices_of(p, header)])


def _notes(path: Path, series: Series) -> tuple[str, ...]:
    return (f"{path}: left out {'; '.join(series.left_out)}",) if series.left_out else ()
