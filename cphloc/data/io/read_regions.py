"""Read annotation files that name their regions, whatever their format."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from pathlib import Path

from cphloc.data.io.dicom_file import read_dicom_file
from cphloc.data.io.dicom_slices import parsing
from cphloc.data.io.formats import DICOM, image_format, split_series
from cphloc.data.io.read_dicom_seg import read_seg
from cphloc.data.io.regions import Region
from cphloc.data.io.rtstruct import read_rtstruct
from cphloc.data.io.slicer_seg import is_slicer_seg, read_slicer_seg
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry

_DICOM_READERS = {"RTSTRUCT": read_rtstruct, "SEG": read_seg}


def names_regions(path: Path) -> bool:
    """Return True for an RTSTRUCT, DICOM SEG or Slicer segmentation, whatever its suffix; False for any other file.

    A folder with one file stands for that file, as DICOM exports put every series into a folder.
    """
    return is_slicer_seg(path) or _modality(_only_file(path)) in _DICOM_READERS


def read_regions(path: Path, like: Geometry, images: Sequence[str] = ()) -> dict[str, Region]:
    """Read the regions of an annotation file.

    Args:
        path: an RTSTRUCT, DICOM SEG or Slicer segmentation, or a folder with one of these.
        like: grid of the image.
        images: files or folders of the image that is annotated; where they are DICOM, the regions must belong to it.

    Returns:
        name -> region, in the order of the file.

    Raises:
        DataError: the file is missing or damaged, has another format, or belongs to another image.
    """
    if is_slicer_seg(path):
        return read_slicer_seg(path, like)
    file = _only_file(path)
    return _DICOM_READERS.get(_modality(file), read_rtstruct)(file, like, images)


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that equal ``pattern``; if there are none, those that match its wildcards ``*`` and ``?``.

    >>> matching("GTV*", ["GTV [1]", "Heart"]), matching("GTV [1]", ["GTV [1]", "GTV 1"])
    (['GTV [1]'], ['GTV [1]'])
    """
    names = list(names)
    exact = [name for name in names if name == pattern]
    wild = pattern.replace("[", "[[]")  # a bracket stands for itself
    return exact or [name for name in names if fnmatch.fnmatchcase(name, wild)]


def _only_file(path: Path) -> Path:
    """The only file of a folder, or of a series in it (``folder#SeriesInstanceUID``); ``path`` for anything else."""
    folder, series = split_series(path)
    if series is not None:
        files = [file for file in folder.rglob("*") if _tag(file, "SeriesInstanceUID") == series]
    else:
        files = [file for file in path.iterdir() if not file.name.startswith(".")] if path.is_dir() else []
    return files[0] if len(files) == 1 else path


def _modality(path: Path) -> str:
    """DICOM modality of a file; an empty text for any other file."""
    return _tag(path, "Modality")


def _tag(path: Path, name: str) -> str:
    """Value of a tag of a DICOM file; an empty text for any other file."""
    if not path.is_file() or image_format(path) not in (DICOM, None):
        return ""
    try:
        with parsing(path):
            header = read_dicom_file(path, specific_tags=[name], stop_before_pixels=True)
            return str(header.get(name, ""))
    except DataError:
        return ""
