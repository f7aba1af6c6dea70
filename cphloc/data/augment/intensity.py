"""Intensity transforms for 2-D and 3-D patches of any intensity range; channels are scaled independently.

Patches are augmented after normalization, so 0 is the value to which the intensity scheme of the channel maps its
reference: the mean of the image (``zscore``), the middle of the window (``ct``), or no uptake.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from cphloc.config.argument_types import UnitInterval
from cphloc.data.augment.spatial import checked_axes, checked_range


class _Intensity(ABC):
    """Base of the intensity transforms: all channels with the same drawn values, or each with its own.

    Args:
        p: probability of applying the transform to a patch.
        p_per_channel: if given, each channel is transformed with this probability and with values of its own.
    """

    def __init__(self, p: float, p_per_channel: float | None) -> None:
        self.p = p
        self.p_per_channel = p_per_channel

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform a patch ``(C, *S)`` float32 with parameters drawn from ``rng``."""
        if self.p_per_channel is None:
            return self.transformed(image, rng)
        image = image.copy()
        for channel in range(len(image)):
            if rng.random() < self.p_per_channel:
                image[channel : channel + 1] = self.transformed(image[channel : channel + 1], rng)
        return image

    @abstractmethod
    def transformed(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return channels ``(C, *S)`` transformed with the same values, drawn from ``rng``."""


class Gamma(_Intensity):
    """Apply a power law (gamma correction) to intensities scaled to the range of the patch.

    Args:
        gamma: range of exponents, drawn log-uniformly.
        invert: probability of inverting intensities before and back after the correction.
        retain_stats: probability of restoring the mean and standard deviation of each channel afterwards.
        p: probability of applying the transform to a patch.
        p_per_channel: if given, each channel is transformed with this probability and with values of its own.
    """

    def __init__(
        self,
        gamma: tuple[float, float] = (0.7, 1.5),
        invert: UnitInterval = 0.0,
        retain_stats: UnitInterval = 0.0,
        p: UnitInterval = 0.5,
        p_per_channel: UnitInterval | None = None,
    ) -> None:
        super().__init__(p, p_per_channel)
        self.gamma = checked_range("Gamma", "gamma", gamma, above=0.0)
        self.invert = invert
        self.retain_stats = retain_stats

    def transformed(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return channels ``(C, *S)`` transformed with the same values, drawn from ``rng``."""
        gamma = np.float32(np.exp(rng.uniform(*np.log(self.gamma))))
        image = -image if (inverted := rng.random() < self.invert) else image
        low, high = _per_channel(image, np.min), _per_channel(image, np.max)
        extent = np.maximum(high - low, np.float32(1e-7))
        bent = ((image - low) / extent) ** gamma * extent + low
        if self.retain_stats and rng.random() < self.retain_stats:
            deviation = np.maximum(_per_channel(bent, np.std), np.float32(1e-7))
            scale = _per_channel(image, np.std) / deviation
            bent = (bent - _per_channel(bent, np.mean)) * scale + _per_channel(image, np.mean)
        return -bent if inverted else bent


class GaussNoise(_Intensity):
    """Add white Gaussian noise to a patch.

    Args:
        sigma: range of the standard deviation of the noise, relative to that of each channel of the patch.
        p: probability of applying the transform to a patch.
        p_per_channel: if given, each channel is transformed with this probability and with values of its own.
    """

    def __init__(
        self,
        sigma: tuple[float, float] = (0.0, 0.2),
        p: UnitInterval = 0.5,
        p_per_channel: UnitInterval | None = None,
    ) -> None:
        super().__init__(p, p_per_channel)
        self.sigma = checked_range("GaussNoise", "sigma", sigma, above=-1e-9)

    def transformed(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return channels ``(C, *S)`` transformed with the same values, drawn from ``rng``."""
        sigma = np.float32(rng.uniform(*self.sigma)) * _per_channel(image, np.std)
        return image + sigma * rng.standard_normal(image.shape, dtype=np.float32)


class GaussBlur(_Intensity):
    """Smooth a patch with a Gaussian filter.

    Args:
        sigma: range of the standard deviation of the filter, in voxels.
        per_axis: draw the standard deviation of each axis by itself.
        p: probability of applying the transform to a patch.
        p_per_channel: if given, each channel is transformed with this probability and with values of its own.
    """

    def __init__(
        self,
        sigma: tuple[float, float] = (0.5, 1.0),
        per_axis: bool = False,
        p: UnitInterval = 0.5,
        p_per_channel: UnitInterval | None = None,
    ) -> None:
        super().__init__(p, p_per_channel)
        self.per_axis = per_axis
        self.sigma = checked_range("GaussBlur", "sigma", sigma, above=-1e-9)

    def transformed(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return channels ``(C, *S)`` transformed with the same values, drawn from ``rng``."""
        sigma = _along_axes(self.sigma, self.per_axis, image.ndim - 1, rng)
        return ndimage.gaussian_filter(image, (0.0, *sigma), mode="nearest", truncate=3.0)


class Brightness(_Intensity):
    """Add a constant to the intensities of a patch.

    Args:
        shift: range of the constant, relative to the standard deviation of each channel of the patch.
        p: probability of applying the transform to a patch.
        p_per_channel: if given, each channel is transformed with this probability and with values of its own.
    """

    def __init__(
        self,
        shift: tuple[float, float] = (-0.25, 0.25),
        p: UnitInterval = 0.5,
        p_per_channel: UnitInterval | None = None,
    ) -> None:
        super().__init__(p, p_per_channel)
        self.shift = checked_range("Brightness", "shift", shift)

    def transformed(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return channels ``(C, *S)`` transformed with the same values, drawn from ``rng``."""
        return image + np.float32(rng.uniform(*self.shift)) * _per_channel(image, np.std)


class MultiplicativeBrightness(_Intensity):
    """Multiply the intensities of a patch by a constant, which leaves 0 as it is.

    Args:
        factor: range of the constant.
        p: probability of applying the transform to a patch.
        p_per_channel: if given, each channel is transformed with this probability and with values of its own.
    """

    def __init__(
        self,
        factor: tuple[float, float] = (0.75, 1.25),
        p: UnitInterval = 0.5,
        p_per_channel: UnitInterval | None = None,
    ) -> None:
        super().__init__(p, p_per_channel)
        self.factor = checked_range("MultiplicativeBrightness", "factor", factor, above=0.0)

    def transformed(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return channels ``(C, *S)`` transformed with the same values, drawn from ``rng``."""
        return image * np.float32(rng.uniform(*self.factor))


class Contrast(_Intensity):
    """Scale intensities about their mean, and by default clip them to the original range of the patch.

    Args:
        factor: range of the scaling factor; above 1 increases the contrast.
        preserve_range: clip the result to the original range of each channel of the patch.
        p: probability of applying the transform to a patch.
        p_per_channel: if given, each channel is transformed with this probability and with values of its own.
    """

    def __init__(
        self,
        factor: tuple[float, float] = (0.75, 1.25),
        preserve_range: bool = True,
        p: UnitInterval = 0.5,
        p_per_channel: UnitInterval | None = None,
    ) -> None:
        super().__init__(p, p_per_channel)
        self.preserve_range = preserve_range
        self.factor = checked_range("Contrast", "factor", factor, above=0.0)

    def transformed(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return channels ``(C, *S)`` transformed with the same values, drawn from ``rng``."""
        mean, factor = _per_channel(image, np.mean), np.float32(rng.uniform(*self.factor))
        scaled = (image - mean) * factor + mean
        if not self.preserve_range:
            return scaled
        return np.clip(scaled, _per_channel(image, np.min), _per_channel(image, np.max))


class LowResolution(_Intensity):
    """Simulate a lower resolution: downsample by nearest neighbour, then upsample linearly to the original size.

    Args:
        zoom: range of the downsampling factor: the fraction of voxels kept along each axis.
        axes: axes along which the resolution is lowered, in array order from 0; default all. Leave out the axis of
            thick slices, whose resolution is low already.
        per_axis: draw the factor of each axis by itself.
        p: probability of applying the transform to a patch.
        p_per_channel: if given, each channel is transformed with this probability and with values of its own.
    """

    def __init__(
        self,
        zoom: tuple[float, float] = (0.5, 1.0),
        axes: Sequence[int] | None = None,
        per_axis: bool = False,
        p: UnitInterval = 0.5,
        p_per_channel: UnitInterval | None = None,
    ) -> None:
        super().__init__(p, p_per_channel)
        self.axes = None if axes is None else tuple(axes)
        self.per_axis = per_axis
        self.zoom = checked_range("LowResolution", "zoom", zoom, above=0.0)

    def axes_of(self, dims: int) -> tuple[int, ...]:
        """Return the axes along which the resolution is lowered, as indices ``0..dims - 1``.

        Raises:
            InputError: an axis is out of range for ``dims`` axes.
        """
        return checked_axes("LowResolution", self.axes, dims)

    def transformed(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return channels ``(C, *S)`` transformed with the same values, drawn from ``rng``."""
        shape = image.shape[1:]
        zooms = _along_axes(self.zoom, self.per_axis, len(shape), rng)
        lowered = self.axes_of(len(shape))
        small = tuple(
            max(1, round(n * zoom)) if axis in lowered else n
            for axis, (n, zoom) in enumerate(zip(shape, zooms, strict=True))
        )
        for axis, (n, m) in enumerate(zip(shape, small, strict=True), start=1):
            nearest = np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1)
            image = np.take(image, nearest, axis=axis)
        for axis, (n, m) in enumerate(zip(shape, small, strict=True), start=1):
            image = _stretch(image, axis, (np.arange(n) + 0.5) * m / n - 0.5)
        return image


def _along_axes(limits: tuple[float, float], per_axis: bool, dims: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Draw one value for all axes, or one for each."""
    return tuple(rng.uniform(*limits, size=dims)) if per_axis else (rng.uniform(*limits),) * dims


def _per_channel(image: np.ndarray, statistic: Callable[..., np.ndarray]) -> np.ndarray:
    return statistic(image, axis=tuple(range(1, image.ndim)), keepdims=True).astype(np.float32)


def _stretch(image: np.ndarray, axis: int, index: np.ndarray) -> np.ndarray:
    """Interpolate ``image`` linearly at fractional positions ``index`` along ``axis``; edge values are repeated."""
    index = np.clip(index, 0, image.shape[axis] - 1)
    low = np.floor(index).astype(int)
    weight = (index - low).astype(np.float32).reshape(-1, *(1,) * (image.ndim - axis - 1))
    high = np.minimum(low + 1, image.shape[axis] - 1)
    return np.take(image, low, axis=axis) * (1 - weight) + np.take(image, high, axis=axis) * weight
