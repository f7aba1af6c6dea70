"""Table of the supported file formats with their reader and writer functions, which are imported on first use."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cphloc.paths import readable

Content = Literal["image", "regions", "boxes"]
"""Content of a file: voxels of an image or label mask, named regions on the grid of an image, or a table of boxes."""


@dataclass(frozen=True)
class Format:
    """One file format.

    Args:
        name: display name.
        content: kind of content.
        read: suffixes that can be read, in lower case with the dot; file names are matched case-insensitively.
        written: suffixes that can be written.
        reader: ``module:function`` that takes a `Path`; for images it returns a `cphloc.structures.volume.Volume`.
        writer: ``module:function`` that writes it.
        options: keyword arguments that the reader accepts besides the path: ``labels`` (read a palette picture as its
            indices), ``series`` (SeriesInstanceUID to read from a folder) and ``unit`` (to convert the values to).
        states_mm: whether the format can store the voxel size in millimetres.
        lister: ``module:function`` that lists the further files with the voxels of an image; ``None`` where there are
            none.
    """

    name: str
    content: Content
    read: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    reader: str | None = None
    writer: str | None = None
    options: tuple[str, ...] = ()
    states_mm: bool = True
    lister: str | None = None

    @property
    def summary(self) -> str:
        """What such a file holds, and the suffixes that are read and written, on one line."""
        ways = (("read", self.read), ("written", self.written))
        return "; ".join([self.content, *(f"{way}: {' '.join(suffixes)}" for way, suffixes in ways if suffixes)])

    def load_reader(self) -> Callable[..., Any]:
        """Import the function that reads this format.

        Raises:
            LookupError: the format can only be written.
        """
        if self.reader is None:
            msg = f"{self.name} files cannot be read"
            raise LookupError(msg)
        return _load(self.reader)

    def load_lister(self) -> Callable[[Path], list[Path]]:
        """Import the function that lists the further files with the voxels of an image.

        Raises:
            LookupError: an image of this format is always one file.
        """
        if self.lister is None:
            msg = f"{self.name} images are one file"
            raise LookupError(msg)
        return _load(self.lister)


def _load(target: str) -> Callable[..., Any]:
    """Import ``module:function``."""
    module, function = target.split(":")
    return getattr(importlib.import_module(module), function)


_IO = "cphloc.data.io"
_IMAGE_WRITER = f"{_IO}.write:write_mask"
_PICTURE = f"{_IO}.read_picture:read_picture"

_DICOM_READER = f"{_IO}.read_dicom:read_dicom"
DICOM = Format("DICOM", "image", (".dcm", ".dicom", ".ima"), (), _DICOM_READER, options=("series", "unit"))
"""DICOM images: one file, or a folder with a series. Files without suffix are recognized by their first bytes."""

FORMATS: tuple[Format, ...] = (
    Format(
        "NIfTI",
        "image",
        (".nii", ".nii.gz", ".hdr", ".hdr.gz"),
        (".nii.gz", ".nii"),
        f"{_IO}.read_nifti:read_nifti",
        _IMAGE_WRITER,
        lister=f"{_IO}.read_nifti:voxel_files",
    ),
    Format(
        "NRRD",
        "image",
        (".nrrd", ".nhdr"),
        (".nrrd",),
        f"{_IO}.read_nrrd:read_nrrd",
        _IMAGE_WRITER,
        lister=f"{_IO}.read_nrrd:voxel_files",
    ),
    Format(
        "MetaImage",
        "image",
        (".mha", ".mhd"),
        (".mha",),
        f"{_IO}.read_metaimage:read_metaimage",
        _IMAGE_WRITER,
        lister=f"{_IO}.read_metaimage:voxel_files",
    ),
    DICOM,
    Format("JPEG", "image", (".jpg", ".jpeg"), (), _PICTURE, None, ("labels",), states_mm=False),
    Format("PNG", "image", (".png",), (".png",), _PICTURE, _IMAGE_WRITER, ("labels",), states_mm=False),
    Format("TIFF", "image", (".tif", ".tiff"), (), _PICTURE, None, ("labels",), states_mm=False),
    Format("BMP", "image", (".bmp",), (), _PICTURE, None, ("labels",), states_mm=False),
    Format("NumPy", "image", (".npy",), (), f"{_IO}.read_array:read_npy", states_mm=False),
    Format(
        "DICOM SEG",
        "regions",
        (".dcm",),
        (".dcm",),
        f"{_IO}.read_dicom_seg:read_segments",
        f"{_IO}.write_dicom_seg:write_dicom_seg",
    ),
    Format("DICOM RTSTRUCT", "regions", (".dcm",), (), f"{_IO}.rtstruct:read_contours"),
    Format("3D Slicer segmentation", "regions", (".seg.nrrd",), (), f"{_IO}.slicer_seg:read_slicer_seg"),
    Format("CSV", "boxes", (), (".csv",), None, f"{_IO}.write:write_boxes_csv"),
    Format("COCO JSON", "boxes", (), (".json",), None, f"{_IO}.write:write_coco", states_mm=False),
    Format("Pascal VOC XML", "boxes", (".xml",), (), f"{_IO}.voc_xml:read_voc_boxes", states_mm=False),
    Format("YOLO text", "boxes", (".txt",), (), f"{_IO}.yolo_text:read_yolo_objects", states_mm=False),
)
"""All supported formats, images first."""


def _suffixes(formats: tuple[Format, ...], which: Literal["read", "written"]) -> tuple[str, ...]:
    return tuple(suffix for one in formats for suffix in getattr(one, which))


_IMAGES = tuple(one for one in FORMATS if one.content == "image")

IMAGE_SUFFIXES = _suffixes(_IMAGES, "read")
"""Suffixes of images that can be read."""

WRITTEN_IMAGE_SUFFIXES = _suffixes(_IMAGES, "written")
"""Suffixes of images, such as masks and maps, that can be written."""

PICTURE_SUFFIXES = _suffixes(tuple(one for one in _IMAGES if one.reader == _PICTURE), "read")
"""Suffixes of 2-D picture formats, such as PNG and JPEG, which store no physical size."""


def split_series(source: str | Path) -> tuple[Path, str | None]:
    """Split ``folder#SeriesInstanceUID`` into the folder and the UID; the UID is ``None`` for other paths.

    >>> split_series("scans/ct#1.2.840")[1]
    '1.2.840'
    """
    path = Path(source).expanduser()
    match = re.fullmatch(r"(.+)#([0-9.]+)", str(path))
    return (path, None) if match is None or path.exists() else (Path(match[1]), match[2])


def image_format(path: Path) -> Format | None:
    """Determine the format of an image file by its suffix, else by its first bytes; ``None`` for an unknown format.

    Raises:
        OSError: the suffix is unknown and the file cannot be opened.

    >>> image_format(Path("scan.NII.gz")).name
    'NIfTI'
    """
    name = path.name.lower()
    by_suffix = next((one for one in _IMAGES if name.endswith(one.read)), None)
    return by_suffix or (DICOM if is_dicom(path) else None)


def is_dicom(path: Path) -> bool:
    """Return True for a file with a DICOM suffix, or whose first bytes are DICOM.

    These are ``DICM`` after the 128-byte preamble or, as old writers leave that out, a first element of group 2 or 8.
    """
    if path.suffix.lower() in DICOM.read:
        return True
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would block
        return False
    with path.open("rb") as file:
        start = file.read(132)
    group, element = int.from_bytes(start[:2], "little"), int.from_bytes(start[2:4], "little")
    length = int.from_bytes(start[4:8], "little")
    first = group in (2, 8) and element <= 0x18 and (start[4:6] in _FIRST_TYPES or length <= 64)
    return start[128:] == b"DICM" or (first and len(start) == 132)


_FIRST_TYPES = (b"UL", b"UI", b"CS", b"OB", b"DA", b"TM")
"""Types of the first element of a DICOM file; without a type, the length of its value follows."""


def case_name(source: str) -> str:
    """Return the name of a case: its file name without suffixes, or the name of the folder of a DICOM series.

    >>> case_name("scans/a.nii.gz"), case_name("scans/ct#1.2.840"), case_name("/")
    ('a', 'ct', 'image')
    """
    name = readable(split_series(source)[0].name)
    return name[: len(name) - len(image_suffix(name))] or "image"


def image_suffix(name: str) -> str:
    """Return the suffix of an image file name, spelled as in ``name``; an empty string for other files.

    >>> image_suffix("scan.NII.gz"), image_suffix("notes.txt")
    ('.NII.gz', '')
    """
    fitting = [suffix for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)]
    return name[-max(map(len, fitting)) :] if fitting else ""
