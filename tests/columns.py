"""Images and masks that differ along their last axis alone, the same in 2-D and 3-D."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike


def columns(dims: int, *values: float, dtype: DTypeLike = np.uint8) -> np.ndarray:
    """Return an array whose columns along the last axis have one value each; 8 voxels along the other axes."""
    return np.broadcast_to(np.array(values, dtype), (8,) * (dims - 1) + (len(values),)).copy()
