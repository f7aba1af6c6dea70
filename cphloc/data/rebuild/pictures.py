"""Open and resize pictures of a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cphloc.errors import DataError

SIDE = 256
"""Width and height of the pictures of the 2-D data sets."""


def opened(path: Path) -> Image.Image:
    """Read a picture whole.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture.copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        msg = f"{path}: cannot be read as a picture ({error}); download the archive again"
        raise DataError(msg) from None


def resized_mask(mask: np.ndarray) -> np.ndarray:
    """Resize a bool mask to `SIDE` x `SIDE`; a pixel is 1 where more than half of its area is."""
    share = Image.fromarray(mask.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return (np.asarray(share) > 0.5).astype(np.uint8)
