"""Intensity schemes: how voxel values are scaled before they enter a model.

A scheme consists of its type and constants only, so a recipe can state it and an entry can store it. In a recipe it is
a name (``zscore``), a mapping (``{type: window, center: 40, width: 400}``) or a list of these, one per channel. Its
card in ``registry/intensity.yaml``, or in the table of a plug-in, names its class: a frozen dataclass derived from
`Intensity`.
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
    """Base of all schemes: a frozen dataclass whose fields are the scheme's arguments, called with one channel.

    Attributes:
        type: name of its card, as recipes write it.
    """

    type: ClassVar[str]

    @property
    def local(self) -> bool:
        """True where the result of a voxel depends on that voxel alone, not on the rest of the image."""
        return True

    @property
    def needs_fit(self) -> bool:
        """True while constants are missing that come from the training set; see `fitted`."""
        return False

    def fitted(self, values: np.ndarray) -> Intensity:
        """Return this scheme with constants computed from foreground voxels ``(n,)`` of the training set."""
        return self

    @abstractmethod
    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Transform one channel into float32.

        Args:
            values: ``(*S)`` as stored.
            window: ``(center, width)`` that the file states for display, or ``None``.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that a recipe or entry stores; `parse_intensity` reads it back."""
        return {"type": self.type, **{k: v for k, v in asdict(self).items() if v is not None}}


@dataclass(frozen=True)
class Unchanged(Intensity):
    """``none``: keep the stored values."""

    type: ClassVar[str] = "none"

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Return ``values`` as float32."""
        return values.astype(np.float32)


@dataclass(frozen=True)
class ZScore(Intensity):
    """``zscore``: scale each volume to mean 0 and standard deviation 1; a constant volume becomes 0.

    Args:
        clip: percentiles at which values are clipped first, so that a few bright voxels do not set the scale.

    >>> float(ZScore()(np.array([10000.0, 10002.0])).max())
    1.0
    """

    type: ClassVar[str] = "zscore"
    clip: Range = (0.0, 100.0)

    def __post_init__(self) -> None:
        if len(self.clip) != 2 or not 0 <= self.clip[0] < self.clip[1] <= 100:
            msg = f"intensity zscore needs two percentiles in clip, the lower first, as [0.5, 99.5]; got {self.clip}"
            raise InputError(msg)

    @property
    def local(self) -> bool:
        """False: mean and standard deviation are those of the whole image."""
        return False

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Clip, subtract the mean, divide by the standard deviation; moments are taken in float64."""
        if tuple(self.clip) != (0.0, 100.0):
            values = np.clip(values, *np.percentile(values, self.clip))
        mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
        return _standardize(values, mean, std if std > 0 else 1.0)


@dataclass(frozen=True)
class CT(Intensity):
    """``ct``: clip to ``low..high``, subtract ``mean``, divide by ``std``; constants of the training foreground.

    `fit_intensity` computes missing constants as nnU-Net does (Isensee et al., Nature Methods 2021): percentiles 0.5
    and 99.5, mean and standard deviation of the foreground voxels of the training cases.

    Args:
        low: lower limit, in the unit of the file; ``None`` until fitted, as for the others.
        high: upper limit.
        mean: subtracted after clipping.
        std: divisor after that.

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
            msg = f"intensity ct needs a std above 0, got {self.std}"
            raise InputError(msg)

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Clip, subtract the mean, divide by the standard deviation.

        Raises:
            InputError: a constant is missing.
        """
        if self.low is None or self.high is None or self.mean is None or self.std is None:
            msg = "intensity ct lacks its constants low, high, mean and std; state them or let training find them"
            raise InputError(msg)
        return _standardize(np.clip(values, self.low, self.high), self.mean, self.std)

    @property
    def needs_fit(self) -> bool:
        """True while a constant is missing."""
        return None in (self.low, self.high, self.mean, self.std)

    def fitted(self, values: np.ndarray) -> CT:
        """Return a scheme with percentiles 0.5 and 99.5, mean and standard deviation of training voxels ``(n,)``."""
        low, high = np.percentile(values, (0.5, 99.5))
        return CT(float(low), float(high), float(values.mean()), float(values.std()) or 1.0)


@dataclass(frozen=True)
class Window(Intensity):
    """``window``: map ``center - width/2 .. center + width/2`` to 0..1 and clip.

    Args:
        center: middle of the window, in the unit of the file; ``None`` takes the window that the file states, or the
            range of the volume where it states none.
        width: width of the window; ``None`` together with ``center``.

    >>> Window(40, 400)(np.array([-160.0, 40.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    type: ClassVar[str] = "window"
    center: float | None = None
    width: PositiveFloat | None = None

    def __post_init__(self) -> None:
        if (self.center is None) != (self.width is None) or (self.width is not None and self.width <= 0):
            msg = f"intensity window needs a center and a width above 0, or neither; got {self.center} and {self.width}"
            raise InputError(msg)

    @property
    def local(self) -> bool:
        """True with center and width; without them, the window may be the range of the whole image."""
        return self.center is not None

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Map the window to 0..1 and clip."""
        if self.center is not None and self.width is not None:
            window = (self.center, self.width)
        if window is None:
            return _ramp(values, float(values.min()), float(values.max()))
        return _ramp(values, window[0] - window[1] / 2, window[0] + window[1] / 2)


@dataclass(frozen=True)
class Scale(Intensity):
    """``scale``: map ``low..high`` to 0..1 and clip; the defaults suit 8-bit pictures.

    Args:
        low: value that becomes 0.
        high: value that becomes 1.

    >>> Scale(0, 255)(np.array([0, 51, 255], np.uint8)).round(2).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """

    type: ClassVar[str] = "scale"
    low: float = 0.0
    high: float = 255.0

    def __post_init__(self) -> None:
        if not self.high > self.low:
            msg = f"intensity scale needs high above low; got {self.low} and {self.high}"
            raise InputError(msg)

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Map ``low..high`` to 0..1 and clip."""
        return _ramp(values, self.low, self.high)


Spec = str | Mapping[str, Any]
"""How a recipe states one scheme: its name, or a mapping with ``type`` and parameters."""


def parse_intensity(spec: Spec | Sequence[Spec], channels: int) -> list[Intensity]:
    """Build the intensity schemes that ``data.intensity`` of a recipe states, one per channel.

    Args:
        spec: a name, a mapping with ``type``, or a list of these with one item per channel.
        channels: number of channels; a single scheme is used for all.

    Raises:
        NotFoundError: there is no scheme of that name.
        InputError: a wrong argument, or a list of another length.

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
    """Fill in the constants that a scheme takes from the training set; a scheme that needs none is returned unchanged.

    Foreground voxels (mask > 0) of all cases are pooled, at most 10,000 from each. Where no case has foreground,
    every voxel counts.

    Args:
        scheme: as the recipe states it.
        volumes: one channel ``(*S)`` per case.
        masks: ``(*S)`` per case, or ``None`` for a case without.
        seed: of the sub-sampling.

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
        msg = f"intensity {scheme.type} cannot be fitted without a training case; state its constants"
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
    width = high - low if high > low else 1.0
    return np.clip((values.astype(np.float32) - low) / width, 0.0, 1.0)
