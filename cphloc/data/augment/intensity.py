"""Intensity transforms for 2-D and 3-D patches of any intensity range; channels are scaled independently."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from cphloc.config.argument_types import UnitInterval
from cphloc.data.augment.spatial import checked_range


class Gamma:
    """Apply a power law (gamma correction) to intensities scaled to the range of the patch.

    Args:
        gamma: range of exponents, drawn log-uniformly.
        invert: probability of inverting intensities before and back after the correction.
        p: probability of applying the transform to a patch.
    """

    def __init__(
        self, gamma: tuple[float, float] = (0.7, 1.5), invert: UnitInterval = 0.0, p: UnitInterval = 0.5
    ) -> None:
        self.gamma = checked_range("Gamma", "gamma", gamma, above=0.0)
        self.invert = invert
        self.p = p

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform a patch ``(C, *S)`` float32 with parameters drawn from ``rng``."""
        gamma = np.float32(np.exp(rng.uniform(*np.log(self.gamma))))
        image = -image if (inverted := rng.random() < self.invert) else image
        low, high = _per_channel(image, np.min), _per_channel(image, np.max)
        extent = np.maximum(high - low, np.float32(1e-7))
        bent = ((image - low) / extent) ** gamma * extent + low
        return -bent if inverted else bent


class GaussNoise:
    """Add white Gaussian noise to a patch.

    Args:
        sigma: range of the standard deviation of the noise, relative to that of each channel of the patch.
        p: probability of applying the transform to a patch.
    """

    def __init__(self, sigma: tuple[float, float] = (0.0, 0.2), p: UnitInterval = 0.5) -> None:
        self.sigma = checked_range("GaussNoise", "sigma", sigma, above=-1e-9)
        self.p = p

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform a patch ``(C, *S)`` float32 with parameters drawn from ``rng``."""
        sigma = np.float32(rng.uniform(*self.sigma)) * _per_channel(image, np.std)
        return image + sigma * rng.standard_normal(image.shape, dtype=np.float32)


class GaussBlur:
    """Smooth a patch with a Gaussian filter.

    Args:
        sigma: range of the standard deviation of the filter, in voxels.
        p: probability of applying the transform to a patch.
    """

    def __init__(self, sigma: tuple[float, float] = (0.5, 1.0), p: UnitInterval = 0.5) -> None:
        self.sigma = checked_range("GaussBlur", "sigma", sigma, above=-1e-9)
        self.p = p

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform a patch ``(C, *S)`` float32 with parameters drawn from ``rng``."""
        sigma = rng.uniform(*self.sigma)
        return ndimage.gaussian_filter(image, (0.0, *(sigma,) * (image.ndim - 1)), mode="nearest", truncate=3.0)


class Brightness:
    """Add a constant to the intensities of a patch.

    Args:
        shift: range of the constant, relative to the standard deviation of each channel of the patch.
        p: probability of applying the transform to a patch.
    """

    def __init__(self, shift: tuple[float, float] = (-0.25, 0.25), p: UnitInterval = 0.5) -> None:
        self.shift = checked_range("Brightness", "shift", shift)
        self.p = p

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform a patch ``(C, *S)`` float32 with parameters drawn from ``rng``."""
        return image + np.float32(rng.uniform(*self.shift)) * _per_channel(image, np.std)


class Contrast:
    """Scale intensities about their mean, and clip them to the original range of the patch.

    Args:
        factor: range of the scaling factor; above 1 increases the contrast.
        p: probability of applying the transform to a patch.
    """

    def __init__(self, factor: tuple[float, float] = (0.75, 1.25), p: UnitInterval = 0.5) -> None:
        self.factor = checked_range("Contrast", "factor", factor, above=0.0)
        self.p = p

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform a patch ``(C, *S)`` float32 with parameters drawn from ``rng``."""
        mean, factor = _per_channel(image, np.mean), np.float32(rng.uniform(*self.factor))
        return np.clip((image - mean) * factor + mean, _per_channel(image, np.min), _per_channel(image, np.max))


class LowResolution:
    """Simulate a lower resolution: downsample by nearest neighbour, then upsample linearly to the original size.

    Args:
        zoom: range of the downsampling factor: the fraction of voxels kept along each axis.
        p: probability of applying the transform to a patch.
    """

    def __init__(self, zoom: tuple[float, float] = (0.5, 1.0), p: UnitInterval = 0.5) -> None:
        self.zoom = checked_range("LowResolution", "zoom", zoom, above=0.0)
        self.p = p

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform a patch ``(C, *S)`` float32 with parameters drawn from ``rng``."""
        zoom, shape = rng.uniform(*self.zoom), image.shape[1:]
        small = tuple(max(1, round(n * zoom)) for n in shape)
        for axis, (n, m) in enumerate(zip(shape, small, strict=True), start=1):
            nearest = np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1)
            image = np.take(image, nearest, axis=axis)
        for axis, (n, m) in enumerate(zip(shape, small, strict=True), start=1):
            image = _stretch(image, axis, (np.arange(n) + 0.5) * m / n - 0.5)
        return image


def _per_channel(image: np.ndarray, statistic: Callable[..., np.ndarray]) -> np.ndarray:
    return statistic(image, axis=tuple(range(1, image.ndim)), keepdims=True).astype(np.float32)


def _stretch(image: np.ndarray, axis: int, index: np.ndarray) -> np.ndarray:
    """Interpolate ``image`` linearly at fractional positions ``index`` along ``axis``; edge values are repeated."""
    index = np.clip(index, 0, image.shape[axis] - 1)
    low = np.floor(index).astype(int)
    weight = (index - low).astype(np.float32).reshape(-1, *(1,) * (image.ndim - axis - 1))
    high = np.minimum(low + 1, image.shape[axis] - 1)
    return np.take(image, low, axis=axis) * (1 - weight) + np.take(image, high, axis=axis) * weight
