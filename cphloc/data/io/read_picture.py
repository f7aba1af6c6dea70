"""Read PNG, JPEG, TIFF and BMP pictures with Pillow."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.data.io.content import MAX_RATIO, check_regular
from cphloc.data.io.itk import encodable, quiet_stderr
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

if TYPE_CHECKING:
    from PIL import Image


DECODERS = ("PNG", "JPEG", "TIFF", "BMP")
"""Decoders of Pillow that may open a picture, whatever its suffix."""
MAX_PIXELS = 80_000_000
"""Largest number of pixels of a grey picture."""
MAX_COLOUR_PIXELS = 60_000_000
"""The same of a colour picture, whose pixels Pillow keeps in 4 bytes each, twice while it turns the picture."""
_VALUES_AT_ONCE = 1 << 22
MAX_CONSTANT_PIXELS = 40_000_000
"""Number of pixels of three colours from which a picture that shrinks more than `MAX_RATIO` times is refused."""


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
                ImageOps.exif_transpose(picture, in_place=True)
                array = _channels(picture, labels)
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
    pixels, stored = math.prod(picture.size), path.stat().st_size
    bands = len(picture.getbands())
    most = MAX_PIXELS if bands == 1 else MAX_COLOUR_PIXELS
    if pixels > most:
        msg = f"it claims {picture.width} x {picture.height} pixels, {most:,} are the most; crop it, or save it smaller"
        raise ValueError(msg)
    values = pixels * bands
    if values > 3 * MAX_CONSTANT_PIXELS and values > MAX_RATIO * stored:
        msg = f"its {stored:,} bytes would expand to {values:,}"
        raise ValueError(msg)
    if picture.format == "TIFF" and any(_covered(picture, axis) < picture.size[axis] for axis in (0, 1)):
        msg = f"its strips cover only a part of the {picture.width} x {picture.height} pixels that it claims"
        raise ValueError(msg)
    return picture


def _covered(picture: Image.Image, axis: int) -> int:
    """Number of columns (axis 0) or rows that the stored parts of a TIFF cover; Pillow leaves the others black."""
    extents = [part[1] for part in getattr(picture, "tile", ())]
    return max((extent[2 + axis] for extent in extents if extent), default=0)


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
    array = _pixels(picture, picture.mode if grey else "RGB")
    if array.dtype == bool:
        array = array.astype(np.uint8)
    return array[None] if grey else np.moveaxis(array, -1, 0)


def _pixels(picture: Image.Image, mode: str) -> np.ndarray:
    """Convert a picture to ``(H, W)`` or ``(H, W, C)``, some rows at a time to save memory."""
    rows = max(1, _VALUES_AT_ONCE // picture.width)
    array = None
    for top in range(0, picture.height, rows):
        part = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        values = np.asarray(part if part.mode == mode else part.convert(mode))
        if array is None:
            array = np.empty((picture.height, *values.shape[1:]), values.dtype)
        array[top : top + rows] = values
    assert array is not None, "a picture has rows"
    return array
