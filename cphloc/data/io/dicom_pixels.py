"""Decode DICOM pixels and convert stored values to the unit of the file, such as Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cphloc.data.io.dicom_slices import Slice, parsing
from cphloc.data.io.itk import quiet_stderr
from cphloc.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from pydicom import Dataset

AIR_HU = -1024
"""Lower clipping limit for CT, in Hounsfield units; scanners store values such as -2000 outside the field of view."""


def read_pixels(slices: Sequence[Slice]) -> np.ndarray:
    """Decode the pixel data of sorted slices and rescale it to the unit of the file.

    Each slice is rescaled by its own slope and intercept; MONOCHROME1 images are inverted so that dense tissue is
    bright; padding becomes -1024 HU in CT and the lowest value of the slice otherwise.

    Args:
        slices: slices of one series, as sorted by `cphloc.data.io.dicom_slices.sort_slices`.

    Returns:
        ``(C, *S)``, 2-D for a single slice. The dtype is the first of uint8, int16, uint16 and int32 that holds all
        values; float32 where the slope or intercept is fractional, as in PET.

    Raises:
        DataError: the pixel data is damaged.
        MissingExtraError: the compression needs the optional dependencies ``cphloc[dicom]``.
    """
    planes = [_values(s) for s in slices]
    whole = all(p.dtype.kind in "iu" for p in planes)
    low, high = min(float(p.min()) for p in planes), max(float(p.max()) for p in planes)
    integers = [t for t in (np.uint8, np.int16, np.uint16) if np.iinfo(t).min <= low and high <= np.iinfo(t).max]
    dtype = (*integers, np.int32)[0] if whole else np.float32
    stack = np.stack([p.astype(dtype, copy=False) for p in planes])
    stack = np.moveaxis(stack, -1, 0) if stack.ndim == 4 else stack[None]
    return stack[:, 0] if len(slices) == 1 else stack


def display_window(plane: Slice) -> tuple[float, float] | None:
    """Return the first window ``(center, width)`` for display, in the unit of `read_pixels`; ``None`` without tags."""
    with parsing(plane.path):
        center, width = (_first(plane.header.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
        if center is None or width is None or not width > 0:
            return None
        if plane.header.PhotometricInterpretation == "MONOCHROME1":
            center = plane.slope * _inversion(plane) + 2 * plane.intercept - center
        return center, width


def _values(plane: Slice) -> np.ndarray:
    """Decode and rescale one plane, ``(H, W)`` or RGB ``(H, W, 3)``."""
    from pydicom import dcmread
    from pydicom.pixels.processing import apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    with parsing(plane.path):
        dataset = dcmread(plane.path, force=True)
        _check_decoder(plane, dataset)
        with quiet_stderr():
            stored = pixel_array(dataset, index=plane.frame)
        if stored.shape[:2] != (dataset.Rows, dataset.Columns):
            msg = f"{plane.path}: decodes to {stored.shape} pixels instead of {dataset.Rows}x{dataset.Columns}"
            raise DataError(msg)
        if stored.ndim == 3:
            return stored
        padding = _padding(plane, stored)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            stored = _inversion(plane) - stored.astype(np.int64)
        if "ModalityLUTSequence" in dataset:
            values = apply_modality_lut(stored, dataset)
        elif plane.slope == int(plane.slope) and plane.intercept == int(plane.intercept):
            values = stored.astype(np.int64) * int(plane.slope) + int(plane.intercept)
        else:
            values = (stored * plane.slope + plane.intercept).astype(np.float32)
        return _without_padding(values, padding, dataset.get("Modality"))


def _without_padding(values: np.ndarray, padding: np.ndarray | None, modality: str | None) -> np.ndarray:
    """Replace padding pixels by air in CT and by the lowest value otherwise; clip CT at `AIR_HU`."""
    if padding is not None and padding.any() and not padding.all():
        values = np.where(padding, AIR_HU if modality == "CT" else values[~padding].min(), values)
    return np.maximum(values, AIR_HU) if modality == "CT" else values


def _padding(plane: Slice, stored: np.ndarray) -> np.ndarray | None:
    """Mask ``(H, W)`` of the padding pixels (tag PixelPaddingValue); ``None`` without the tag."""
    value = plane.header.get("PixelPaddingValue")
    if value is None:
        return None
    limit = plane.header.get("PixelPaddingRangeLimit", value)
    # Some files store the tag as unsigned although the pixels are signed; the cast keeps the bit pattern.
    low, high = sorted(int(np.asarray(int(v)).astype(stored.dtype)) for v in (value, limit))
    return (stored >= low) & (stored <= high)


def _inversion(plane: Slice) -> int:
    """Constant ``c`` with which ``c - stored`` inverts a MONOCHROME1 image."""
    return -1 if plane.header.PixelRepresentation else (1 << int(plane.header.BitsStored)) - 1


def _check_decoder(plane: Slice, dataset: Dataset) -> None:
    """Raise an error where no decoder for the compression of the pixel data is installed."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ImplicitVRLittleEndian

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
