"""Small pictures of entries for the zoo page: the first panel of a picture, without its title and legend."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np

MAX_BYTES = 8_000_000
"""Largest picture file that is read."""
_SIZE = (192, 144)
_DARK = 70
"""Grey value below which a pixel may belong to the frame of a panel."""
_LEAST = 0.3
"""Share of the picture's height that the left line of a frame has at least."""


def thumbnail(path: Path) -> str:
    """Return the first panel of a picture as a ``data:`` URL; empty where the file cannot be read as a picture.

    Args:
        path: PNG of `cphloc.evaluation.pictures`, or any other picture.
    """
    from PIL import Image

    try:
        if path.stat().st_size > MAX_BYTES:
            return ""
        with Image.open(path, formats=["PNG"]) as file:
            picture = file.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    picture = picture.crop(first_panel(np.asarray(picture.convert("L"))))
    picture.thumbnail(_SIZE)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def first_panel(grey: np.ndarray) -> tuple[int, int, int, int]:
    """Find the inside of the leftmost frame of dark lines.

    Args:
        grey: picture, ``(height, width)``, from 0 (black) to 255.

    Returns:
        left, top, right and bottom, as ``PIL.Image.crop`` takes them; the whole picture where there is no frame.
    """
    height, width = grey.shape
    dark = grey < _DARK
    for left in np.flatnonzero(dark.sum(0) >= _LEAST * height).tolist():
        top, bottom = _longest_run(dark[:, left])
        if bottom - top < _LEAST * height:
            continue
        line = dark[top, left:]
        right = left + int(np.argmin(line)) if not line.all() else width
        if right - left > 2:
            return left + 1, top + 1, right - 1, bottom - 1
    return 0, 0, width, height


def _longest_run(values: np.ndarray) -> tuple[int, int]:
    """Return start and end of the longest run of true values."""
    edges = np.flatnonzero(np.diff(np.r_[False, values, False].astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest])
