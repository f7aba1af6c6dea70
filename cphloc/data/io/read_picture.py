"""Read PNG, JPEG, TIFF and BMP pictures with Pillow."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.data.io.content import check_regular
from cphloc.data.io.itk import encodable, quiet_stderr
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

if TYPE_CHECKING:
    from PIL import Image


DECODERS = ("PNG", "JPEG", "TIFF", "BMP")
"""Decoders of Pillow that may open a picture, whatever its suffix."""
MAX_PIXELS = 80_000_000
"""Largest number of pixels; of three colours in 8 bits they take 240 MB."""


def read_picture(path: Path, labels: bool = False) -> Volume:
    """Read a picture as one channel (grey) or three (RGB), in the bit depth of the file; the alpha channel is dropped.

    Picture formats store no physical size, so the unit of the geometry is ``px``. The EXIF orientation is applied.

    Args:
        path: the file.
        labels: whether to read a palette picture as its indices, as label masks are stored, instead of its colours.

    Raises:
        DataError: the file is damaged or has several pages.
    """
    from PIL import ImageOps

    check_regular(path)
    try:
        with warnings.catch_warnings(action="ignore"), quiet_stderr(), _opened(path) as picture:
            if getattr(picture, "is_animated", False):  # n_frames would read every page
                array = None
            elif _has_16_bit_colour(picture):
                array = _by_itk(path, str(picture.format))
            else:
                array = _channels(ImageOps.exif_transpose(picture), labels)
    except Exception as error:  # Pillow's plug-ins raise OSError, SyntaxError, ValueError, struct.error and others
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{path}: cannot be read as a picture ({reason}); copy or export it again"
        raise DataError(msg) from error
    if array is None:
        msg = f"{path}: has several pages; split it into one file per image"
        raise DataError(msg)
    return Volume(array, Geometry.regular(array.shape[1:], unit="px"), None, str(path))


def _opened(path: Path) -> Image.Image:
    """Open a picture with one of the `DECODERS`; Pillow has others that start programs, such as Ghostscript."""
    from PIL import Image

    picture = Image.open(path, formats=DECODERS)
    if math.prod(picture.size) > MAX_PIXELS:
        msg = f"it claims {picture.width} x {picture.height} pixels, {MAX_PIXELS:,} are the most"
        raise ValueError(msg)
    return picture


def _has_16_bit_colour(picture: Image.Image) -> bool:
    """Return True for 16-bit colour pictures, which Pillow truncates to 8 bits."""
    return not picture.mode.startswith("I") and any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ()))


def _by_itk(path: Path, decoder: str) -> np.ndarray:
    """Read pixels ``(C, H, W)`` of a PNG or TIFF with SimpleITK, without the alpha channel."""
    import SimpleITK as sitk

    with encodable(path) as name:
        array = np.moveaxis(sitk.GetArrayFromImage(sitk.ReadImage(name, imageIO=f"{decoder}ImageIO")), -1, 0)
    return array[: 1 if len(array) == 2 else 3]


def _channels(picture: Image.Image, labels: bool) -> np.ndarray:
    """Pixels of a Pillow image as ``(C, H, W)``, without the alpha channel."""
    grey = picture.mode in ("1", "L", "F") or picture.mode.startswith("I") or (picture.mode == "P" and labels)
    if picture.mode == "LA":
        picture, grey = picture.getchannel(0), True
    array = np.array(picture if grey else picture.convert("RGB"))
    if array.dtype == bool:
        array = array.astype(np.uint8)
    return array[None] if grey else np.moveaxis(array, -1, 0)
