"""Images and masks that differ along their last axis alone, the same in 2-D and 3-D."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike


def columns(dims: int, *values: float, across: int = 8, dtype: DTypeLike = np.uint8) -> np.ndarray:
    """Return an array whose columns along the last axis have one value each, and ``across`` voxels along the others."""
    return np.broadcast_to(np.array(values, dtype), (across,) * (dims - 1) + (len(values),)).copy()
