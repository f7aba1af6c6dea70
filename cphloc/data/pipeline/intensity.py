"""Intensity schemes: scaling of voxel values before they are passed to a model.

A scheme is defined by its type and constants, so that recipes and zoo entries can store it. In a recipe it is a name
(``zscore``), a mapping (``{type: window, center: 40, width: 400}``) or a list of these, one per channel. Its card in
``registry/intensity.yaml``, or in ``intensity.yaml`` of a plug-in, contains the import path of its class: a frozen
dataclass derived from `Intensity`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from cphloc.config.argument_types import PositiveFloat
from cphloc.data.from_card import make
from cphloc.errors import InputError

Range = tuple[float, float]


@dataclass(frozen=True)
class Intensity(ABC):
    """Base class of intensity schemes: frozen dataclasses that are called with one channel of an image.

    Attributes:
        type: name of the scheme in recipes and of its card.
    """

    type: ClassVar[str]

    @property
    def local(self) -> bool:
        """Whether the result for a voxel depends only on that voxel, not on the rest of the image."""
        return True

    @property
    def needs_fit(self) -> bool:
        """Whether constants must still be computed from the training set; see `fitted`."""
        return False

    def fitted(self, values: np.ndarray) -> Intensity:
        """Return a copy with constants computed from foreground voxel values ``(n,)`` of the training set."""
        return self

    @abstractmethod
    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Scale one channel and convert it to float32.

        Args:
            values: ``(*S)``, in the unit of the file.
            window: ``(center, width)`` for display, from the file; ``None`` if it has none.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return the scheme as a mapping for a recipe; the inverse of `parse_intensity`."""
        return {"type": self.type, **{k: v for k, v in asdict(self).items() if v is not None}}


@dataclass(frozen=True)
class Unchanged(Intensity):
    """``none``: convert to float32 without scaling."""

    type: ClassVar[str] = "none"

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Return ``values`` as float32."""
        return values.astype(np.float32)


@dataclass(frozen=True)
class ZScore(Intensity):
    """``zscore``: normalize each channel of an image to mean 0 and standard deviation 1; a constant image becomes 0.

    Args:
        clip: lower and upper percentile in [0, 100] at which values are clipped first, to limit outliers.

    >>> float(ZScore()(np.array([10000.0, 10002.0])).max())
    1.0
    """

    type: ClassVar[str] = "zscore"
    clip: Range = (0.0, 100.0)

    def __post_init__(self) -> None:
        if len(self.clip) != 2 or not 0 <= self.clip[0] < self.clip[1] <= 100:
            msg = f"intensity zscore: clip must be two increasing percentiles, such as [0.5, 99.5]; got {self.clip}"
            raise InputError(msg)

    @property
    def local(self) -> bool:
        """False, because mean and standard deviation are computed over the whole image."""
        return False

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Clip, subtract the mean and divide by the standard deviation, both computed in float64."""
        if tuple(self.clip) != (0.0, 100.0):
            values = np.clip(values, *np.percentile(values, self.clip))
        mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        return _standardize(values, mean, std if std > 0 else 1.0)


@dataclass(frozen=True)
class CT(Intensity):
    """``ct``: clip to ``low..high``, subtract ``mean`` and divide by ``std``, constants for the whole training set.

    `fit_intensity` computes missing constants as in nnU-Net (Isensee et al., Nature Methods 2021): 0.5th and 99.5th
    percentile, mean and standard deviation of the foreground voxels of the training cases.

    Args:
        low: lower clipping limit, in the unit of the file. All four constants are ``None`` until fitted.
        high: upper clipping limit.
        mean: value to subtract after clipping.
        std: divisor after the subtraction, above 0.

    >>> CT(low=-100, high=200, mean=50, std=25)(np.array([-1000.0, 75.0])).tolist()
    [-6.0, 1.0]
    """

    type: ClassVar[str] = "ct"
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: PositiveFloat | None = None

    def __post_init__(self) -> None:
        if self.std is not None and self.std <= 0:
            msg = f"intensity ct: std must be above 0, got {self.std}"
            raise InputError(msg)

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Clip, subtract the mean and divide by the standard deviation.

        Raises:
            InputError: a constant is missing.
        """
        if self.low is None or self.high is None or self.mean is None or self.std is None:
            msg = "intensity ct needs the constants low, high, mean and std; set them, or fit them with fit_intensity"
            raise InputError(msg)
        return _standardize(np.clip(values, self.low, self.high), self.mean, self.std)

    @property
    def needs_fit(self) -> bool:
        """Whether a constant is missing."""
        return None in (self.low, self.high, self.mean, self.std)

    def fitted(self, values: np.ndarray) -> CT:
        """Return a scheme with 0.5th and 99.5th percentile, mean and standard deviation of voxel values ``(n,)``."""
        low, high = np.percentile(values, (0.5, 99.5))
        return CT(float(low), float(high), float(values.mean()), float(values.std()) or 1.0)


@dataclass(frozen=True)
class Window(Intensity):
    """``window``: map ``center - width/2 .. center + width/2`` linearly to 0..1 and clip.

    Args:
        center: center of the window, in the unit of the file; ``None`` uses the display window stored in the file, or
            the minimum and maximum of the image if the file has none.
        width: width of the window, in the same unit; ``None`` if and only if ``center`` is ``None``.

    >>> Window(40, 400)(np.array([-160.0, 40.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    type: ClassVar[str] = "window"
    center: float | None = None
    width: PositiveFloat | None = None

    def __post_init__(self) -> None:
        if (self.center is None) != (self.width is None) or (self.width is not None and self.width <= 0):
            msg = f"intensity window: set center and width (above 0), or neither; got {self.center} and {self.width}"
            raise InputError(msg)

    @property
    def local(self) -> bool:
        """Whether ``center`` and ``width`` are set; otherwise the range of the whole image may be needed."""
        return self.center is not None

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Map the window linearly to 0..1 and clip."""
        if self.center is not None and self.width is not None:
            window = (self.center, self.width)
        if window is None:
            return _ramp(values, float(values.min()), float(values.max()))
        return _ramp(values, window[0] - window[1] / 2, window[0] + window[1] / 2)


@dataclass(frozen=True)
class Scale(Intensity):
    """``scale``: map ``low..high`` linearly to 0..1 and clip; the defaults are the range of 8-bit pictures.

    Args:
        low: value that is mapped to 0.
        high: value that is mapped to 1.

    >>> Scale(0, 255)(np.array([0, 51, 255], np.uint8)).round(2).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """

    type: ClassVar[str] = "scale"
    low: float = 0.0
    high: float = 255.0

    def __post_init__(self) -> None:
        if not self.high > self.low:
            msg = f"intensity scale: high must be above low; got {self.low} and {self.high}"
            raise InputError(msg)

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Map ``low..high`` linearly to 0..1 and clip."""
        return _ramp(values, self.low, self.high)


Spec = str | Mapping[str, Any]
"""One scheme in a recipe: its name, or a mapping with ``type`` and arguments."""


def parse_intensity(spec: Spec | Sequence[Spec], channels: int) -> list[Intensity]:
    """Create the intensity schemes, one per channel, from ``data.intensity`` of a recipe.

    Args:
        spec: a name, a mapping with ``type``, or a list of these with one item per channel.
        channels: number of channels; a single scheme is used for all.

    Raises:
        NotFoundError: there is no scheme with that name.
        InputError: an argument is invalid, or the length of the list differs from ``channels``.

    >>> parse_intensity("zscore", 2)
    [ZScore(clip=(0.0, 100.0)), ZScore(clip=(0.0, 100.0))]
    """
    if isinstance(spec, (str, Mapping)):
        return [_from_dict(spec)] * channels
    if len(spec) != channels:
        msg = f"intensity lists {len(spec)} schemes for {channels} channels; give one per channel, or one for all"
        raise InputError(msg)
    return [_from_dict(s) for s in spec]


def fit_intensity(
    scheme: Intensity, volumes: Iterable[np.ndarray], masks: Iterable[np.ndarray | None], seed: int = 0
) -> Intensity:
    """Compute the missing constants of a scheme from the training set; a complete scheme is returned unchanged.

    Foreground voxels (mask > 0) of all cases are pooled, at most 10,000 random ones per case. If no case has
    foreground, voxels of the whole images are used.

    Args:
        scheme: the scheme to fit.
        volumes: one channel ``(*S)`` per case.
        masks: class mask ``(*S)`` per case; ``None`` for a case without a mask.
        seed: random seed of the subsampling.

    Raises:
        InputError: the scheme needs constants, and there is no case.
    """
    if not scheme.needs_fit:
        return scheme
    rng = np.random.default_rng(seed)
    foreground, everything = [], []
    for volume, mask in zip(volumes, masks, strict=True):
        everything.append(_sample(volume.ravel(), rng))
        if mask is not None:
            foreground.append(_sample(volume[mask > 0], rng))
    pooled = [part for part in foreground if len(part)] or everything
    if not pooled:
        msg = f"intensity {scheme.type} cannot be fitted without a training case; set its constants in the recipe"
        raise InputError(msg)
    return scheme.fitted(np.concatenate(pooled).astype(np.float64))


def _sample(values: np.ndarray, rng: np.random.Generator, at_most: int = 10_000) -> np.ndarray:
    return values if len(values) <= at_most else rng.choice(values, at_most, replace=False)


def _from_dict(spec: Spec) -> Intensity:
    arguments = {"type": spec} if isinstance(spec, str) else dict(spec)
    name = str(arguments.pop("type", None))
    scheme = make("intensity", name, arguments)
    if not isinstance(scheme, Intensity) or scheme.type != name:
        msg = f"intensity {name}: class {type(scheme).__qualname__} must be an Intensity with type = '{name}'"
        raise InputError(msg)
    return scheme


def _standardize(values: np.ndarray, mean: float, std: float) -> np.ndarray:
    result = values.astype(np.float32)
    result -= np.float32(mean)
    result /= np.float32(std)
    return result


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map ``low..high`` linearly to 0..1 and clip."""
    width = high - low if high > low else 1.0
    return np.clip((values.astype(np.float32) - low) / width, 0.0, 1.0)
