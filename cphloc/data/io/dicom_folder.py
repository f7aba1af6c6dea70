"""Find the image files of one DICOM series in a folder as hospitals export them.

Such a folder may contain sub-folders, several series, a DICOMDIR, reports, contours, previews, viewers and a README.
What is left out is reported.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cphloc.data.io.dicom_file import read_dicom_file
from cphloc.data.io.dicom_slices import parsing
from cphloc.data.io.formats import is_dicom
from cphloc.errors import DataError, counted
from cphloc.files import is_temporary

if TYPE_CHECKING:
    from pydicom import Dataset

_NOT_IMAGES = ("RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "SEG", "SR", "PR", "KO", "REG", "DOC", "RWV", "PLAN")
_DECODED = (
    "SOPClassUID",
    "ImageType",
    "Modality",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""SOP class, and start of those for several frames, of screenshots such as dose reports."""
_LISTED = 5
"""Most names in a message."""


@dataclass(frozen=True)
class Series:
    """The image files of one series, and what was left out.

    Args:
        headers: file -> its DICOM data set without pixel data.
        left_out: what else the folder contains, one phrase each.
    """

    headers: Mapping[Path, Dataset]
    left_out: tuple[str, ...] = ()


def find_series(path: Path, uid: str | None = None) -> Series:
    """Find the files of one series.

    Where a folder contains several series and none is named, scouts and secondary captures are left out; the series is
    found if one other remains.

    Args:
        path: file, or folder that is searched recursively.
        uid: SeriesInstanceUID.

    Raises:
        DataError: there is no image, or no such series, or there are several to choose from; a file is damaged.
    """
    if path.is_file():
        header = _header(path)
        if not _is_image(header):
            what = header.get("Modality") or "object without pixels"
            msg = f"{path}: is a DICOM {what}, not an image; pass the file or folder of the image series"
            raise DataError(msg)
        return _chosen(path, {path: header}, uid, [])
    visible = (p for p in path.rglob("*") if not p.name.startswith(".") and not is_temporary(p, path))
    files = sorted(p for p in visible if p.is_file())
    dicom, others = _sorted_out(path, files)
    headers = {p: _header(p) for p in dicom}
    images = {p: header for p, header in headers.items() if _is_image(header)}
    left_out = [_named("file", "not DICOM", others)] if others else []
    kinds = Counter(str(header.get("Modality", "DICOMDIR")) for p, header in headers.items() if p not in images)
    left_out += [f"{count} x {kind}, not an image" for kind, count in kinds.items()]
    if not images:
        msg = f"{path}: contains DICOM objects but no image; pass the folder of the image series"
        raise DataError(msg)
    return _chosen(path, images, uid, left_out)


def is_dicom_image(path: Path) -> bool:
    """Return True for a DICOM file with an image, or one that is damaged; False for a DICOMDIR, a report and the like.

    Args:
        path: a file.
    """
    try:
        return is_dicom(path) and _is_image(_header(path))
    except DataError:
        return True
    except OSError:
        return False


def _sorted_out(folder: Path, files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Separate DICOM files from others; a file named like the DICOM files that is not DICOM is damaged."""
    if not files:
        msg = f"{folder}: is an empty folder; pass one that contains DICOM files"
        raise DataError(msg)
    dicom = [p for p in files if p.stat().st_size and is_dicom(p)]
    if not dicom:
        msg = f"{folder}: contains {len(files)} files but none is DICOM; pass the image file"
        raise DataError(msg)
    names, suffixes = {_pattern(p) for p in dicom}, {p.suffix for p in dicom} - {""}
    others = sorted(set(files) - set(dicom))
    for other in others:
        if _pattern(other) in names or other.suffix in suffixes:
            what = (
                "is not DICOM unlike other files of that kind of name" if other.stat().st_size else "is empty (0 bytes)"
            )
            msg = f"{other}: {what}; copy it again, or remove it"
            raise DataError(msg)
    return dicom, others


def _pattern(path: Path) -> str:
    """Name of a file with each number replaced by ``0``: the slices of a series are numbered."""
    return re.sub(r"\d+", "0", path.name)


def _is_image(header: Dataset) -> bool:
    return "Rows" in header and header.get("Modality") not in _NOT_IMAGES


def _header(path: Path) -> Dataset:
    with parsing(path):
        header = read_dicom_file(path, stop_before_pixels=True)
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


def _chosen(path: Path, images: Mapping[Path, Dataset], uid: str | None, left_out: list[str]) -> Series:
    """Choose the series ``uid``, or the only one that is neither a scout nor a secondary capture."""
    groups: dict[str, dict[Path, Dataset]] = {}
    for file, header in images.items():
        groups.setdefault(str(header.get("SeriesInstanceUID", "")), {})[file] = header
    main = [name for name, group in groups.items() if not all(map(_is_aside, group.values()))]
    chosen = uid if uid is not None else next(iter(groups)) if len(groups) == 1 else main[0] if len(main) == 1 else None
    if chosen not in groups:
        listed = "; ".join(f"{name} ({_about(group)})" for name, group in groups.items())
        if uid is not None:
            msg = f"{path}: contains no series {uid}; it contains {listed}"
        else:
            msg = f"{path}: contains {len(groups)} series; choose one as '{path}#UID' or series=UID: {listed}"
        raise DataError(msg)
    left_out = [*left_out, *(f"series {name} ({_about(g)})" for name, g in groups.items() if name != chosen)]
    group = groups[chosen]
    scouts = [p for p, header in group.items() if _is_scout(header)]
    if 0 < len(scouts) < len(group):
        group = {p: header for p, header in group.items() if p not in scouts}
        left_out.append(_named("scout", "of the same series", scouts))
    return Series(group, tuple(left_out))


def _is_scout(header: Dataset) -> bool:
    return "LOCALIZER" in (header.get("ImageType") or ())


def _is_aside(header: Dataset) -> bool:
    """Return True for scouts and screenshots, which are exported along with the images."""
    return _is_scout(header) or str(header.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE)


def _about(group: Mapping[Path, Dataset]) -> str:
    header = next(iter(group.values()))
    return f"{header.get('Modality', '?')}, '{header.get('SeriesDescription', '')}', {counted(len(group), 'file')}"


def _named(kind: str, which: str, files: Sequence[Path]) -> str:
    names = ", ".join(p.name for p in files[:_LISTED])
    return f"{counted(len(files), kind)} {which} ({names}{', ...' if len(files) > _LISTED else ''})"
