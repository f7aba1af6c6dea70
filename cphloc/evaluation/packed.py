"""Masks of many cases in memory, compressed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Packed:
    """An array of few distinct values, compressed: masks of many cases fit into memory."""

    content: bytes
    shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, array: np.ndarray) -> Packed:
        """Compress an array."""
        return cls(zlib.compress(np.ascontiguousarray(array).tobytes(), 1), array.shape, array.dtype)

    @property
    def array(self) -> np.ndarray:
        """The array; read-only."""
        return np.frombuffer(zlib.decompress(self.content), self.dtype).reshape(self.shape)
