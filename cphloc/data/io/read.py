"""Read images and masks of any supported format.

The supported formats are listed in `cphloc.data.io.formats`. Every problem with a file raises a `DataError` whose
message contains the path, the reason and a remedy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.data.io.channels import in_unit, stacked
from cphloc.data.io.content import check_regular
from cphloc.data.io.formats import DICOM, IMAGE_SUFFIXES, Format, case_name, image_format, split_series
from cphloc.data.io.masks import label_values, onto_grid
from cphloc.data.io.read_array import volume_of
from cphloc.errors import DataError, InputError
from cphloc.structures.geometry import Geometry
from cphloc.structures.units import ScaledUnit
from cphloc.structures.volume import Scan, Volume

Channel = str | Path | np.ndarray | Volume
"""One image or channel: the path of a file or DICOM folder, an array or a `Volume`."""
_HEADERS = (".hdr", ".mhd", ".nhdr")
"""Suffixes of headers whose voxels are in another file."""
Source = Channel | Sequence[Channel]
"""An image: one `Channel` with all channels, or a list with one item per channel."""


def read_volume(
    source: Source,
    spacing_mm: Sequence[float] | None = None,
    dims: int | None = None,
    series: str | None = None,
    units: Sequence[ScaledUnit | None] = (),
    given: Sequence[ScaledUnit | None] = (),
) -> Volume:
    """Read an image with its geometry.

    Args:
        source: a file, a DICOM folder (``folder#seriesUID`` where it holds several series), an array, a `Volume`, or a
            list of these that become the channels of one image, on the grid of the first. An array is ``(*S)`` or
            ``(C, *S)``; a 2-D picture may also be ``(H, W, 3)``.
        spacing_mm: voxel size in array axis order, for arrays and picture formats, which store none.
        dims: required number of spatial axes, 2 or 3; ``None`` accepts both. A 3-D image of a single slice counts as
            2-D.
        series: SeriesInstanceUID to read from a DICOM folder.
        units: unit of each item of ``source`` that a file which states its unit is converted to, such as PET in DICOM
            to SUV; ``None``, or no list, leaves the values as they are.
        given: unit of each item whose file states none, where it is not that of ``units``, to which it is converted.

    Raises:
        DataError: the file is missing, damaged or not a supported image; it has a voxel size that differs from
            ``spacing_mm``, another number of axes than ``dims``, several series, NaN or infinite voxels, channels
            that share no coordinates, or a unit that cannot be converted.

    >>> read_volume(np.zeros((4, 5, 6)), spacing_mm=(2.0, 1.0, 1.0)).geometry.spacing_mm
    (2.0, 1.0, 1.0)
    """
    if isinstance(source, (list, tuple)):
        wished, stated = ([(unit,) for unit in each] or [()] * len(source) for each in (units, given))
        of_each = zip(source, wished, stated, strict=True)
        return stacked([read_volume(s, spacing_mm, dims, series, u, g) for s, u, g in of_each])
    wanted, own = units[0] if units else None, given[0] if given else None
    if isinstance(source, Volume):
        volume = source
    elif isinstance(source, np.ndarray):
        volume = volume_of(source, spacing_mm, dims)
    else:
        volume = in_unit(_read_path(str(source), series, unit=None if wanted is None else wanted.unit), wanted, own)
    volume = _with_spacing(volume, spacing_mm)
    _check_values(volume)
    return _with_dims(volume, dims)


def read_scan(source: str | Path) -> Scan:
    """Read what the file of an image states about the scan, without its voxels; formats other than DICOM state nothing.

    Raises:
        DataError: it is DICOM and cannot be read.
    """
    from cphloc.data.io.dicom_units import scan_of
    from cphloc.data.io.read_dicom import read_slices

    path, series = split_series(source)
    if not path.exists() or (path.is_file() and image_format(path) is not DICOM):
        return Scan()
    return scan_of(read_slices(path, series))


def read_mask(source: str | Path, like: Geometry, resampled: bool = False, binary: bool = True) -> np.ndarray:
    """Read a label mask on the grid of an image; see `cphloc.data.io.masks` for the values and grids that are accepted.

    Args:
        source: file or DICOM folder of the mask.
        like: grid of the image.
        resampled: whether to resample a mask on another grid by nearest neighbour; if False, it is an error.
        binary: whether 255 means class 1 in a mask with only the values 0 and 255.

    Returns:
        ``(*like.shape)``, uint8 where all labels are at most 255, otherwise int32.

    Raises:
        DataError: the file cannot be read, contains values other than whole numbers from 0, or is on another grid.
    """
    volume = _with_dims(_read_path(str(source), None, labels=True), like.dims)
    _check_values(volume)
    return onto_grid(label_values(volume, binary), volume.geometry, like, str(source), resampled)


def mask_values(source: str | Path) -> list[int]:
    """List the values of a label mask, with 1 for 255 in a mask of 0 and 255.

    Raises:
        DataError: the file cannot be read, or contains values other than whole numbers from 0.
    """
    volume = _read_path(str(source), None, labels=True)
    _check_values(volume)
    return np.unique(label_values(volume)).tolist()


def read_region(source: str | Path, like: Geometry) -> np.ndarray:
    """Read a map of where something may be located, on the grid of an image.

    Args:
        source: file of one channel with values in [0, 1], or 0 to 255.
        like: grid of the image.

    Returns:
        ``(*like.shape)`` float32 in [0, 1].

    Raises:
        DataError: the file cannot be read, has other values or several channels, or is on another grid.
    """
    volume = _with_dims(_read_path(str(source), None, labels=True), like.dims)
    _check_values(volume)
    low, high = float(volume.array.min()), float(volume.array.max())
    if low < 0 or high > 255 or not (volume.array == volume.array[:1]).all():
        msg = f"{source}: is not a region: it must have one channel of 0 to 1, or 0 to 255, got {low:g} to {high:g}"
        raise DataError(msg)
    values = volume.array[0].astype(np.float32) / np.float32(255 if high > 1 else 1)
    return onto_grid(values, volume.geometry, like, str(source))


def _read_path(source: str, series: str | None, labels: bool = False, unit: str | None = None) -> Volume:
    path, uid = split_series(source)
    if not os.path.exists(path):  # Path.exists raises an error for a name that is too long for the system
        msg = f"{path}: does not exist; {_nearby(path) or 'check the path'}"
        raise DataError(msg)
    if path.is_dir():
        return _read_with(DICOM, path, series=series or uid, unit=unit)
    check_regular(path)
    if path.stat().st_size == 0:
        msg = f"{path}: is empty (0 bytes); copy or export it again"
        raise DataError(msg)
    found = image_format(path)
    if found is None:
        header = next((p for suffix in _HEADERS if (p := path.with_suffix(suffix)).is_file() and p != path), None)
        what = f"is neither DICOM nor one of {', '.join(IMAGE_SUFFIXES)}; convert it to one of these"
        msg = f"{path}: {what if header is None else f'holds only the voxels of {header.name}; pass that file'}"
        raise DataError(msg)
    options = {"labels": labels, "series": series or uid, "unit": unit}
    return _read_with(found, path, **{name: options[name] for name in found.options})


def _read_with(format: Format, path: Path, **options: Any) -> Volume:
    """Read a file by the reader of its format; what is wrong with its geometry is an error with the file's name."""
    try:
        return format.load_reader()(path, **options)
    except InputError as error:
        if type(error) is not InputError:
            raise
        msg = f"{path}: {error}; correct its header, or export it again"
        raise DataError(msg) from error


def _with_spacing(volume: Volume, spacing_mm: Sequence[float] | None) -> Volume:
    if spacing_mm is None:
        return volume
    own = volume.geometry
    spacing = tuple(float(s) for s in spacing_mm)
    if own.unit == "px":
        origin = tuple(0.0 for _ in spacing)
        return replace(volume, geometry=Geometry(own.shape, spacing, origin, own.direction, "mm"))
    if not np.allclose(own.spacing_mm, spacing, rtol=1e-3):
        msg = f"{volume.source}: has the voxel size {_rounded(own.spacing_mm)} mm; leave out spacing_mm {spacing}"
        raise DataError(msg)
    return volume


def _check_values(volume: Volume) -> None:
    if volume.array.dtype.kind != "f":
        return
    # Quick test without a copy of the array: the sum is finite only if every voxel is finite.
    with np.errstate(invalid="ignore"):
        if np.isfinite(volume.array.sum(dtype=np.float64)):
            return
    bad = int((~np.isfinite(volume.array)).sum())
    if bad:
        msg = f"{volume.source}: {bad} voxels are NaN or infinite; replace them, for instance by the background value"
        raise DataError(msg)


def _with_dims(volume: Volume, dims: int | None) -> Volume:
    if dims is None or (volume.dims == dims and (dims == 2 or 1 not in volume.geometry.shape)):
        return volume
    if dims == 3:
        what = "has a single slice" if volume.dims == 3 else "is a 2-D image"
        msg = f"{volume.source}: {what} but a volume is needed; pass the whole series or use a 2-D model"
        raise DataError(msg)
    if 1 not in volume.geometry.shape:
        msg = f"{volume.source}: is a volume of {volume.geometry.shape} voxels but a 2-D image is needed; pass a slice"
        raise DataError(msg)
    axis = volume.geometry.shape.index(1)
    return replace(volume, array=volume.array.squeeze(axis + 1), geometry=volume.geometry.plane(axis))


def _nearby(path: Path) -> str:
    """Suggest the file of the same name in other letters or with another suffix.

    Names that differ otherwise may be those of another patient, and are not suggested.
    """
    name = case_name(path.name).casefold()
    siblings = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    same = [other.name for other in siblings if case_name(other.name).casefold() == name and other.name != path.name]
    return f"did you mean '{same[0]}'?" if same else ""


def _rounded(spacing_mm: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(s, 4) for s in spacing_mm)
