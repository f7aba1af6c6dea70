"""Intensity schemes that other frameworks use, for models with imported weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cphloc.config.argument_types import PositiveFloat
from cphloc.data.pipeline.intensity import Intensity, Range, Window, ZScore
from cphloc.errors import InputError


@dataclass(frozen=True)
class ZScoreNonzero(Intensity):
    """``zscore_nonzero``: normalize the voxels that are not 0, and holes among them, to mean 0 and deviation 1.

    The others stay 0: the scheme is for images whose background was set to 0, such as skull-stripped brains
    (nnU-Net's ``use_mask_for_norm``). Reference: Isensee et al. 2021, doi 10.1038/s41592-020-01008-z.

    Args:
        holes: also normalize voxels that are 0 and enclosed by others, as nnU-Net does and MONAI does not.

    >>> ZScoreNonzero()(np.array([[0.0, 2.0, 4.0, 0.0]])).tolist()
    [[0.0, -1.0, 1.0, 0.0]]
    """

    type: ClassVar[str] = "zscore_nonzero"
    holes: bool = True

    @property
    def local(self) -> bool:
        """False, because mean and standard deviation are computed over the whole image."""
        return False

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Normalize the voxels that are not 0 and the holes among them."""
        return self.within(values, nonzero(values[None]) if self.holes else values != 0)

    def within(self, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Normalize the voxels of a mask, such as `nonzero` of all channels; the others stay as they are."""
        result, inside = values.astype(np.float32), values[mask]
        if inside.size:
            result[mask] = ZScore()(inside)
        return result


def nonzero(channels: np.ndarray) -> np.ndarray:
    """Return the voxels ``(*S)`` that are not 0 in any of the channels ``(C, *S)``, with holes filled."""
    from scipy.ndimage import binary_fill_holes

    return np.asarray(binary_fill_holes((channels != 0).any(axis=0)))


@dataclass(frozen=True)
class MinMax(Intensity):
    """``minmax``: map the least and the largest value of a channel to 0 and 1; a constant image becomes 0.

    >>> MinMax()(np.array([2.0, 3.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    type: ClassVar[str] = "minmax"

    @property
    def local(self) -> bool:
        """False, because minimum and maximum are those of the whole image."""
        return False

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Map the range of the image linearly to 0..1."""
        return Window()(values)


@dataclass(frozen=True)
class Fixed(Intensity):
    """``fixed``: clip to ``low..high`` where given, subtract ``mean`` and divide by ``std``, such as those of ImageNet.

    Args:
        mean: value to subtract, in the unit of the file.
        std: divisor after the subtraction, above 0.
        low: lower clipping limit; ``None`` does not clip.
        high: upper clipping limit.

    >>> Fixed(mean=100.0, std=50.0, high=255.0)(np.array([0, 150, 300])).round(2).tolist()
    [-2.0, 1.0, 3.0999999046325684]
    """

    type: ClassVar[str] = "fixed"
    mean: float
    std: PositiveFloat
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not self.std > 0:
            msg = f"intensity fixed: std must be above 0, got {self.std}"
            raise InputError(msg)

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Clip, subtract the mean and divide by the standard deviation."""
        clipped = values if self.low is None and self.high is None else np.clip(values, self.low, self.high)
        return (clipped.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)
