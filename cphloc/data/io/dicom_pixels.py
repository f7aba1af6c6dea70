"""Decode DICOM pixels and convert stored values to the unit of the file, such as Hounsfield units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cphloc.data.io.dicom_file import check_frame, check_pixels, read_dicom_file
from cphloc.data.io.dicom_slices import Slice, parsing
from cphloc.data.io.itk import quiet_stderr
from cphloc.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from pydicom import Dataset

AIR_HU = -1024
"""Lower clipping limit for CT, in Hounsfield units; scanners store values such as -2000 outside the field of view."""


_UNITS = ("CT", "PT", "NM")
"""Modalities whose values are measurements: MONOCHROME1 is how they are displayed and does not invert them."""
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""Photometric interpretations of three samples per pixel; pydicom converts all of them to RGB."""
_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
"""Photometric interpretations of one sample per pixel."""


def read_pixels(slices: Sequence[Slice]) -> np.ndarray:
    """Decode the pixel data of sorted slices and rescale it to the unit of the file.

    Each slice is rescaled by its own slope and intercept, or by its modality LUT; palettes and YBR become RGB;
    MONOCHROME1 images are inverted so that dense tissue is bright, except measurements such as CT; padding becomes
    -1024 HU in CT and the lowest value of the slice otherwise, or of the series where a slice is all padding.

    Args:
        slices: slices of one series, as sorted by `cphloc.data.io.dicom_stack.sort_slices`.

    Returns:
        ``(C, *S)``, 2-D for a single slice. The dtype is the first of uint8, int16, uint16, int32 and uint32 that holds
        all values; float32 where the slope, intercept or pixels are fractional, as in PET.

    Raises:
        DataError: the pixel data is damaged, or of a kind that is not supported.
        MissingExtraError: the compression needs the optional dependencies ``cphloc[dicom]``.
    """
    planes = [_values(plane, dataset) for plane, dataset in _opened(slices)]
    planes = _without_padding(planes, slices[0].header.get("Modality"))
    whole = all(p.dtype.kind in "biu" for p in planes)
    low, high = min(float(p.min()) for p in planes), max(float(p.max()) for p in planes)
    integers = [t for t in _INTEGERS if np.iinfo(t).min <= low and high <= np.iinfo(t).max]
    dtype = integers[0] if whole and integers else np.float32
    stack = np.stack([p.astype(dtype, copy=False) for p in planes])
    stack = np.moveaxis(stack, -1, 0) if stack.ndim == 4 else stack[None]
    return stack[:, 0] if len(slices) == 1 else stack


_INTEGERS = (np.uint8, np.int16, np.uint16, np.int32, np.uint32)


def display_window(plane: Slice) -> tuple[float, float] | None:
    """Return the first window ``(center, width)`` for display, in the unit of `read_pixels`; ``None`` without tags."""
    with parsing(plane.path):
        center, width = (_first(plane.header.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
        if center is None or width is None or not width > 0:
            return None
        return (_inversion(plane) - center if _is_inverted(plane) else center), width


def _opened(slices: Sequence[Slice]) -> Iterator[tuple[Slice, Dataset]]:
    """Pairs of slice and data set with pixels; the frames of a multi-frame file share one data set."""
    path, dataset = None, None
    for plane in slices:
        if dataset is None or plane.path != path:
            with parsing(plane.path):
                path, dataset = plane.path, read_dicom_file(plane.path)
                _check_decoder(plane, dataset)
                _check_kind(plane.path, dataset)
                check_pixels(plane.path, dataset)
        yield plane, dataset


def _check_kind(path: Path, dataset: Dataset) -> None:
    """Raise an error for colour spaces that are not converted."""
    samples, kind = int(dataset.get("SamplesPerPixel", 1)), str(dataset.PhotometricInterpretation)
    known = {1: _GREY, 3: _COLOURS}.get(samples, ())
    if kind not in known:
        msg = f"{path}: has {samples} samples per pixel in the colour space '{kind}'; convert it to RGB or MONOCHROME2"
        raise DataError(msg)


def _values(plane: Slice, dataset: Dataset) -> np.ndarray:
    """Decode and rescale one plane, ``(H, W)`` or RGB ``(H, W, 3)``; a masked array where pixels are padding."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    with parsing(plane.path):
        check_frame(plane.path, dataset, plane.frame)
        with quiet_stderr():
            stored = pixel_array(dataset, index=plane.frame)
        if stored.shape[:2] != (dataset.Rows, dataset.Columns):
            msg = f"{plane.path}: decodes to {stored.shape} pixels instead of {dataset.Rows}x{dataset.Columns}"
            raise DataError(msg)
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            return apply_color_lut(stored, dataset)[..., :3]
        if stored.ndim == 3:
            return stored
        padding = _padding(plane, stored)
        if "ModalityLUTSequence" in dataset:
            values = apply_modality_lut(stored, dataset)
        elif stored.dtype.kind in "biu" and plane.slope == int(plane.slope) and plane.intercept == int(plane.intercept):
            values = stored.astype(np.int64) * int(plane.slope) + int(plane.intercept)
        else:
            values = (stored * np.float64(plane.slope) + plane.intercept).astype(np.float32)
        if _is_inverted(plane):
            values = _inversion(plane) - values.astype(np.int64 if values.dtype.kind in "biu" else values.dtype)
        return values if padding is None or not padding.any() else np.ma.array(values, mask=padding)


def _without_padding(planes: list[np.ndarray], modality: str | None) -> list[np.ndarray]:
    """Replace padding pixels by air in CT and by the lowest value otherwise; clip CT at `AIR_HU`."""
    if modality == "CT":
        return [np.maximum(np.ma.filled(p, AIR_HU), AIR_HU) for p in planes]
    unpadded = [p.min() for p in planes if p.min() is not np.ma.masked]
    lowest = min(unpadded, default=0)
    return [np.ma.filled(p, lowest if p.min() is np.ma.masked else p.min()) for p in planes]


def _padding(plane: Slice, stored: np.ndarray) -> np.ndarray | None:
    """Mask ``(H, W)`` of the padding pixels (tag PixelPaddingValue); ``None`` without the tag."""
    kind = {"float32": "Float", "float64": "DoubleFloat"}.get(stored.dtype.name, "")
    value = plane.header.get(f"{kind}PixelPaddingValue")
    if value is None or value == "":
        return None
    limit = plane.header.get(f"{kind}PixelPaddingRangeLimit", value)
    if kind:
        low, high = sorted((float(value), float(limit)))
        return (stored >= low) & (stored <= high) | (np.isnan(stored) & np.isnan(low))
    # Some files store the tag as unsigned although the pixels are signed; the cast keeps the bit pattern.
    low, high = sorted(int(np.asarray(int(v)).astype(stored.dtype)) for v in (value, limit))
    return (stored >= low) & (stored <= high)


def _is_inverted(plane: Slice) -> bool:
    header = plane.header
    return header.get("PhotometricInterpretation") == "MONOCHROME1" and header.get("Modality") not in _UNITS


def _inversion(plane: Slice) -> float | int:
    """Constant ``c`` with which ``c - value`` inverts the rescaled values of a MONOCHROME1 image."""
    table = plane.header.get("ModalityLUTSequence")
    if table:
        return (1 << int(table[0].LUTDescriptor[2])) - 1
    highest = -1 if plane.header.get("PixelRepresentation") else (1 << int(plane.header.get("BitsStored", 0))) - 1
    total = plane.slope * highest + 2 * plane.intercept
    return int(total) if total == int(total) else total


def _check_decoder(plane: Slice, dataset: Dataset) -> None:
    """Raise an error where no decoder for the compression of the pixel data is installed."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ImplicitVRLittleEndian

    from cphloc.data.io import dicom_jpeg12

    dicom_jpeg12.register()
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not get_decoder(syntax).is_available:
        raise MissingExtraError(f"{plane.path}: decoding {syntax.name}", "dicom")


def _first(value: Any) -> float | None:
    """First value of a DICOM element of any multiplicity, as float; ``None`` for an empty or absent element."""
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value)
