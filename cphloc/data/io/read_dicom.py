"""Read a DICOM series from a folder or a single file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.data.io.dicom_pixels import display_window, read_pixels
from cphloc.data.io.dicom_slices import Slice, parsing, slices_of
from cphloc.data.io.dicom_stack import sort_slices, stack_grid
from cphloc.data.io.dicom_units import scan_of, suv_factor
from cphloc.data.io.formats import is_dicom
from cphloc.errors import DataError, did_you_mean
from cphloc.structures.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

_NOT_IMAGES = ("RTSTRUCT", "RTPLAN", "RTDOSE", "SEG", "SR", "PR", "KO", "REG", "DOC")
_DECODED = ("Modality", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "Rows", "Columns", "NumberOfFrames")


def read_dicom(path: Path, series: str | None = None, unit: str | None = None) -> Volume:
    """Read one DICOM series as a 3-D volume, or as a 2-D image where it has a single slice.

    CT values are in Hounsfield units, others in the unit defined by the rescale slope and intercept of the file.

    Args:
        path: file, or folder that is searched recursively.
        series: SeriesInstanceUID; required where the folder contains several series.
        unit: ``SUV`` converts a PET series by its tags; other values leave the unit as it is.

    Raises:
        DataError: there is no series, there are several and ``series`` is not given, the files are damaged or do not
            form a regular volume, or a PET series lacks the tags to convert it.
        MissingExtraError: the compression needs the optional dependencies ``cphloc[dicom]``.
    """
    slices = read_slices(path, series)
    first = slices[0]
    source = str(path) if series is None else f"{path}#{series}"
    modality = first.header.get("Modality")
    array, window, scan = read_pixels(slices), display_window(first), scan_of(slices)
    if unit == "SUV" and modality == "PT":
        factor = suv_factor(slices)
        array, scan = (array * factor).astype(np.float32), replace(scan, unit=unit)
        window = None if window is None else (window[0] * factor, window[1] * factor)
    return Volume(array, stack_grid(path, slices), modality, source, window, scan)


def read_slices(path: Path, series: str | None = None) -> list[Slice]:
    """Read the headers of one series, sorted in the slice order of the volume that `read_dicom` returns.

    Args:
        path: file, or folder that is searched recursively.
        series: SeriesInstanceUID; required where the folder contains several series.

    Raises:
        DataError: see `read_dicom`.
    """
    headers = _headers(path)
    return sort_slices(path, [s for p in _chosen(path, headers, series) for s in slices_of(p, headers[p])])


def _headers(path: Path) -> dict[Path, Dataset]:
    """Map each image file in a folder and its subfolders to its header."""
    if path.is_file():
        return {path: _header(path)}
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not files:
        msg = f"{path}: is an empty folder; pass one that contains DICOM files"
        raise DataError(msg)
    dicom = {p for p in files if p.stat().st_size and is_dicom(p)}
    if not dicom:
        msg = f"{path}: contains {len(files)} files but none is DICOM; pass the image file"
        raise DataError(msg)
    suffixes = {p.suffix for p in dicom}
    for other in files:
        if other not in dicom and (other.suffix in suffixes or other.stat().st_size == 0):
            what = (
                "is empty (0 bytes)" if other.stat().st_size == 0 else "is not DICOM unlike other files of that suffix"
            )
            msg = f"{other}: {what}; copy it again, or remove it"
            raise DataError(msg)
    headers = {p: _header(p) for p in files if p in dicom}
    return {p: h for p, h in headers.items() if "Rows" in h and h.get("Modality") not in _NOT_IMAGES}


def _header(path: Path) -> Dataset:
    from pydicom import dcmread

    with parsing(path):
        header = dcmread(path, stop_before_pixels=True, force=True)
        if "SOPClassUID" not in header and "DirectoryRecordSequence" not in header:
            msg = f"{path}: cannot be read as DICOM (no SOPClassUID); copy or export it again"
            raise DataError(msg)
        # pydicom decodes values on first access; access them here, so that the error message contains the file.
        for name in _DECODED:
            header.get(name)
        if "Rows" in header and not (int(header.Rows) > 0 and int(header.Columns) > 0):
            msg = f"{path}: has a size of {header.Rows}x{header.Columns} pixels; copy or export it again"
            raise DataError(msg)
        return header


def _chosen(path: Path, headers: dict[Path, Dataset], series: str | None) -> list[Path]:
    groups: dict[str, list[Path]] = {}
    for file, header in headers.items():
        groups.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(file)
    if not groups or (path.is_file() and "Rows" not in headers[path]):
        msg = f"{path}: contains DICOM objects but no image; pass the folder of the image series"
        raise DataError(msg)
    if series is None and len(groups) == 1:
        return next(iter(groups.values()))
    if series in groups:
        return groups[series]
    listed = "; ".join(
        f"{uid} ({headers[files[0]].get('Modality', '?')}, '{headers[files[0]].get('SeriesDescription', '')}', "
        f"{len(files)} files)"
        for uid, files in groups.items()
    )
    if series is not None:
        msg = f"{path}: contains no series {series}; {did_you_mean(series, groups)} It contains {listed}"
    else:
        msg = f"{path}: contains {len(groups)} series; choose one as '{path}#UID' or series=UID: {listed}"
    raise DataError(msg)
