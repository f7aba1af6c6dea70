"""Named regions of annotation files: DICOM RTSTRUCT, DICOM SEG, and segmentations of 3D Slicer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Region:
    """A named region.

    Args:
        draw: function that returns the region as a mask ``(*S)`` uint8, 1 inside, on the grid of the image.
        drawn: False for a region that the file lists and nobody has drawn, so that nothing is known of it.
        problem: why the region cannot be turned into a mask; ``None`` where it can.
    """

    draw: Callable[[], np.ndarray]
    drawn: bool = True
    problem: str | None = None
