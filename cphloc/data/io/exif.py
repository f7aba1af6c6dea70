"""Turn annotations of a picture as its camera recorded it into the orientation in which it is shown.

`cphloc.data.io.read_picture` applies the orientation of the EXIF data, as viewers do; some annotation tools do not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

ORIENTATION = 274
"""EXIF tag of the orientation (Exif 2.3, 4.6.4)."""
_TURNS = {5: lambda a: a.T, 6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].T, 8: np.rot90}
"""Orientations that exchange rows and columns -> function that turns an array ``(H, W)``."""


def exif_orientation(path: Path) -> int:
    """Return the EXIF orientation of a picture, 1 to 8; 1 (as stored) where it states none."""
    from PIL import Image

    with Image.open(path) as picture:
        return int(picture.getexif().get(ORIENTATION, 1))


def exchanges_axes(orientation: int) -> bool:
    """Whether a picture of this orientation is shown with rows and columns exchanged."""
    return orientation in _TURNS


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array ``(H, W)`` of the stored picture into the orientation in which it is shown."""
    return np.ascontiguousarray(_TURNS.get(orientation, lambda a: a)(array))


def turned_boxes(boxes: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Turn boxes ``(n, 4)``, ``[y0, x0, y1, x1]``, of the stored picture of ``size`` (H, W), as `turned` does pixels.

    >>> turned_boxes(np.array([[2.0, 4, 10, 24]]), (40, 60), orientation=6).tolist()
    [[4.0, 30.0, 24.0, 38.0]]
    """
    if orientation not in _TURNS:
        return boxes
    height, width = size
    y0, x0, y1, x1 = boxes.T
    rows = (width - x1, width - x0) if orientation in (7, 8) else (x0, x1)
    columns = (height - y1, height - y0) if orientation in (6, 7) else (y0, y1)
    return np.stack([rows[0], columns[0], rows[1], columns[1]], axis=1)
