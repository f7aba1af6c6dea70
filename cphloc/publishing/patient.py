"""Keep patients out of a published entry: pixels and geometry are copied, headers, names and burned-in text are not."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cphloc.config.tables import text_of, write_table
from cphloc.data.io.dicom_file import read_dicom_file
from cphloc.data.io.dicom_slices import parsing
from cphloc.data.io.formats import PICTURE_SUFFIXES, is_dicom
from cphloc.data.io.source_files import source_files
from cphloc.data.io.write import write_volume
from cphloc.paths import portable
from cphloc.structures.volume import Volume

if TYPE_CHECKING:
    from cphloc.data.case import Case

_BURNED_IN = ("Modality", "SOPClassUID", "BurnedInAnnotation")
_ULTRASOUND = ("1.2.840.10008.5.1.4.1.1.6.", "1.2.840.10008.5.1.4.1.1.3.")
_UPRIGHT = np.array([[0.0, 1.0], [1.0, 0.0]])
"""Direction of rows and columns of a picture file."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def burned_in_problems(cases: Iterable[Case]) -> list[str]:
    """List cases whose DICOM images may have text burned into their pixels, such as the patient's name.

    That is so where BurnedInAnnotation is YES, and in ultrasound and secondary captures that lack the tag. Picture
    files state nothing.

    Args:
        cases: cases of which an entry shows pixels: its sample, and those in its pictures.
    """
    found = {case.id: reason for case in cases for image in case.images if (reason := _burned_in(image))}
    if not found:
        return []
    case, reason = next(iter(found.items()))
    return [
        f"images of {len(found)} cases may have text burned into their pixels, such as a name ({case}: {reason}); look "
        "at the sample and the pictures, then publish with --sample-is-clean"
    ]


def _burned_in(image: Path) -> str:
    """Return why an image may have text in its pixels; an empty string otherwise."""
    for file in source_files(image):
        if not is_dicom(file):
            continue
        with parsing(file):
            header = read_dicom_file(file, stop_before_pixels=True, specific_tags=list(_BURNED_IN))
            stated = str(header.get("BurnedInAnnotation") or "").strip().upper()
            kind = str(header.get("SOPClassUID") or "")
        if stated == "YES":
            return "BurnedInAnnotation is YES"
        if stated != "NO" and (header.get("Modality") in ("US", "IVUS") or kind.startswith(_ULTRASOUND)):
            return "ultrasound without the tag BurnedInAnnotation"
        if stated != "NO" and kind.startswith(_SECONDARY_CAPTURE):
            return "secondary capture without the tag BurnedInAnnotation"
    return ""


def write_pixels(folder: Path, volume: Volume, channels: tuple[str, ...]) -> dict[str, str]:
    """Write the pixels and the geometry of an image to new files, without anything else of its source.

    Args:
        folder: folder to write to.
        volume: the image, one channel for each of ``channels``.
        channels: names of the channels.

    Returns:
        file name by channel: a PNG for pictures, else one NIfTI file for each channel; by ``image`` where one file
        holds every channel.
    """
    if _is_picture(volume):
        _write_png(folder / "image.png", volume.array)
        return {"image": "image.png"}
    plain = [re.sub(r"[^A-Za-z0-9-]+", "_", channel).strip("_") for channel in channels]
    unique = len({name.lower() for name in plain}) == len(plain) and all(name == portable(name) for name in plain)
    names = [f"{name if unique else number}.nii.gz" for number, name in enumerate(plain)]
    for name, values in zip(names, volume.array, strict=True):
        write_volume(folder / name, values, volume.geometry)
    return dict(zip(channels, names, strict=True))


def write_rows(source: Path, target: Path) -> None:
    """Copy a table with a row per case; patients get numbers, which keep what belongs to one patient together.

    The numbers sort as the names do, because the resamples of a bootstrap depend on the order of the patients.
    """
    with source.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows: list[dict[str, Any]] = [{k: text_of(v or "") for k, v in row.items() if k} for row in reader]
    names = sorted({row["patient"] for row in rows if row.get("patient")})
    numbers = {name: f"patient-{number:0{len(str(len(names)))}d}" for number, name in enumerate(names, 1)}
    for row in rows:
        if row.get("patient"):
            row["patient"] = numbers[row["patient"]]
    write_table(target, list(reader.fieldnames or ()), rows)


def _is_picture(volume: Volume) -> bool:
    """Return whether a PNG holds the image: 8 or 16 bits of grey, or 8 bits of colour, without a position in space."""
    kinds = {1: (np.uint8, np.uint16), 3: (np.uint8,)}
    flat = volume.dims == 2 and np.array_equal(volume.geometry.direction, _UPRIGHT)
    drawn = volume.geometry.unit == "px" or volume.source.lower().endswith(PICTURE_SUFFIXES)
    return flat and drawn and volume.array.dtype in kinds.get(len(volume.array), ())


def _write_png(path: Path, array: np.ndarray) -> None:
    from PIL import Image

    pixels = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")
