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
"""Lowest Hounsfield value kept; scanners write values such as -2000 outside their field of view."""


def read_pixels(slices: Sequence[Slice]) -> np.ndarray:
    """Read the values of sorted slices as ``(C, *S)``.

    Each slice is rescaled by its own slope and intercept; MONOCHROME1 images are inverted so that dense tissue is
    bright; padding becomes air (CT) or the lowest value. Whole numbers stay integers (int16 where they fit);
    fractional slopes, as in PET, give float32.

    Raises:
        DataError: damaged pixels.
        MissingExtraError: pixels are compressed in a way that needs the extra ``dicom``.
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
    """Return the first display window ``(center, width)`` of the file, in the unit of `read_pixels`, or ``None``."""
    with parsing(plane.path):
        center, width = (_first(plane.header.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
        if center is None or width is None or not width > 0:
            return None
        if plane.header.PhotometricInterpretation == "MONOCHROME1":
            center = plane.slope * _inversion(plane) + 2 * plane.intercept - center
        return center, width


def _values(plane: Slice) -> np.ndarray:
    """One plane ``(H, W)`` or ``(H, W, 3)`` in the unit of the file."""
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
    if padding is not None and padding.any() and not padding.all():
        values = np.where(padding, AIR_HU if modality == "CT" else values[~padding].min(), values)
    return np.maximum(values, AIR_HU) if modality == "CT" else values


def _padding(plane: Slice, stored: np.ndarray) -> np.ndarray | None:
    """Bool ``(H, W)``, True for pixels outside the field of view (tag PixelPaddingValue); ``None`` without the tag."""
    value = plane.header.get("PixelPaddingValue")
    if value is None:
        return None
    limit = plane.header.get("PixelPaddingRangeLimit", value)
    # The tag may be written unsigned in a signed image; the cast keeps its 16 bits.
    low, high = sorted(int(np.asarray(int(v)).astype(stored.dtype)) for v in (value, limit))
    return (stored >= low) & (stored <= high)


def _inversion(plane: Slice) -> int:
    """Number from which stored MONOCHROME1 values are subtracted to invert the image."""
    return -1 if plane.header.PixelRepresentation else (1 << int(plane.header.BitsStored)) - 1


def _check_decoder(plane: Slice, dataset: Dataset) -> None:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ImplicitVRLittleEndian

    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not get_decoder(syntax).is_available:
        raise MissingExtraError(f"{plane.path}: decoding {syntax.name}", "dicom")


def _first(value: Any) -> float | None:
    """The first number of a tag that may hold one, several or none."""
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value)
