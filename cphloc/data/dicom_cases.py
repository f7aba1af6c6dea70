"""Pair the DICOM series of a folder with the RTSTRUCT or SEG that refers to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.data.io.dicom_slices import parsing
from cphloc.data.io.formats import is_dicom
from cphloc.data.io.notice import notice
from cphloc.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

_REGIONS = ("RTSTRUCT", "SEG")


def find_dicom_cases(root: Path, files: Sequence[Path]) -> list[dict[str, str]]:
    """List the series that an RTSTRUCT or SEG refers to, as rows of ``cases.csv``; other series are left out.

    The patient is the PatientID of the files, else the first folder below ``root``.

    Args:
        root: the folder that paths are relative to.
        files: files below it; those that are not DICOM are left out.

    Raises:
        DataError: no file is DICOM, no series has regions, or a series has several files of them.
    """
    headers = {file: _header(file) for file in files if file.stat().st_size and is_dicom(file)}
    if not headers:
        msg = f"{root}: contains no image; give a folder with images, or with a cases.csv (cphloc data template)"
        raise DataError(msg)
    series: dict[str, list[Path]] = defaultdict(list)
    for file, header in headers.items():
        if "Rows" in header and header.get("Modality") not in _REGIONS:
            series[str(header.get("SeriesInstanceUID", ""))].append(file)
    regions = {file: _referenced(h) for file, h in headers.items() if h.get("Modality") in _REGIONS}
    by_series: dict[str, list[Path]] = defaultdict(list)
    for file, uids in regions.items():
        found = next((uid for uid in uids if uid in series), None)
        if found is None:
            notice(file, "refers to no series of this folder, and is left out")
        else:
            by_series[found].append(file)
    if not by_series:
        msg = f"{root}: contains {len(series)} DICOM series, but no RTSTRUCT or SEG that refers to one; add them"
        raise DataError(msg)
    several = next((files for files in by_series.values() if len(files) > 1), None)
    if several is not None:
        listed = ", ".join(str(file.relative_to(root)) for file in several)
        msg = f"{root}: {listed} refer to one series; write a cases.csv with the one to use (cphloc data template)"
        raise DataError(msg)
    left = len(series) - len(by_series)
    if left:
        notice(root, f"{left} DICOM series to which no RTSTRUCT or SEG refers are left out")
    return [_row(root, uid, series, file, headers[file]) for uid, (file,) in sorted(by_series.items())]


def _row(root: Path, uid: str, series: dict[str, list[Path]], regions: Path, header: Dataset) -> dict[str, str]:
    """Row of a series; its folder alone names it where the folder holds no other series."""
    folder = series[uid][0].parent
    alone = not any(folder in file.parents for other, group in series.items() if other != uid for file in group)
    place = folder.relative_to(root).as_posix()
    name = "_".join(folder.relative_to(root).parts) or "series"
    return {
        "image": place if alone else f"{place}#{uid}",
        "case": name if alone else f"{name}_{uid.rpartition('.')[2]}",
        "patient": str(header.get("PatientID") or "") or folder.relative_to(root).parts[0],
        "mask": regions.relative_to(root).as_posix(),
    }


def _header(file: Path) -> Dataset:
    from pydicom import dcmread

    with parsing(file):
        return dcmread(file, stop_before_pixels=True, force=True)


def _referenced(header: Dataset) -> list[str]:
    """SeriesInstanceUIDs that an RTSTRUCT or SEG refers to."""
    items: list[Any] = list(header.get("ReferencedSeriesSequence") or ())
    for frame in header.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            items += study.get("RTReferencedSeriesSequence") or ()
    return [str(item.get("SeriesInstanceUID", "")) for item in items]
