"""Fingerprint of training images: their intensities and extents, and whether an image lies far from them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np

PERCENTILES = (0.5, 50.0, 99.5)
"""Percentiles of the voxel values of an image that a fingerprint holds."""

SAMPLED_VALUES = 100_000
"""Number of voxels from which the percentiles of a channel are computed."""
SPREADS_BEYOND = 0.5
"""How far a percentile may lie beyond those of the training images, as a multiple of their median spread."""
SPREAD_RATIO = 3.0
"""Largest ratio of the spread of an image to those of the training images."""
EXTENT_RATIO = 2.0
"""Largest ratio of the extent of an image to those of the training images."""
AXES = ("slices", "rows", "columns")


def percentiles_of(values: np.ndarray) -> tuple[float, float, float]:
    """Return the 0.5th, 50th and 99.5th percentile of one channel, from evenly spaced voxels of a large one."""
    import numpy as np  # not at the top: reading an entry needs none

    flat = values.ravel()[:: max(1, values.size // SAMPLED_VALUES)]
    low, middle, high = np.percentile(flat, PERCENTILES).tolist()
    return low, middle, high


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Spread(_Strict):
    """Least, median and largest of a quantity over the training images."""

    least: float
    median: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize one value per image."""
        return cls(least=float(min(values)), median=float(median(values)), largest=float(max(values)))


class ChannelFingerprint(_Strict):
    """Percentiles of one channel, as stored in the unit and factor of the model's input, over the training images."""

    low: Spread
    middle: Spread
    high: Spread


class Fingerprint(_Strict):
    """Intensities and extents of the training images.

    Args:
        cases: number of training images.
        channels: 0.5th, 50th and 99.5th percentile by channel.
        extent: extent of the image per axis (slices, rows, columns of the patient), in ``unit``.
        unit: ``mm``, or ``px`` where images state no physical size.
    """

    cases: int
    channels: dict[str, ChannelFingerprint]
    extent: list[Spread]
    unit: Literal["mm", "px"]

    @classmethod
    def of(
        cls,
        channels: Sequence[str],
        percentiles: Sequence[Sequence[Sequence[float]]],
        extents: Sequence[Sequence[float]],
        unit: Literal["mm", "px"],
    ) -> Fingerprint:
        """Summarize training images.

        Args:
            channels: names of the channels.
            percentiles: ``(cases, C, 3)``, see `PERCENTILES`.
            extents: ``(cases, D)`` in canonical axis order.
            unit: of the extents.
        """
        # A grey picture stands for all channels.
        full = [[of[min(place, len(of) - 1)] for place in range(len(channels))] for of in percentiles]
        by_channel = {}
        for place, name in enumerate(channels):
            low, middle, high = (Spread.of(column) for column in zip(*(of[place] for of in full), strict=True))
            by_channel[name] = ChannelFingerprint(low=low, middle=middle, high=high)
        extent = [Spread.of(column) for column in zip(*extents, strict=True)]
        return cls(cases=len(percentiles), channels=by_channel, extent=extent, unit=unit)

    def unusual_values(self, channel: str, percentiles: Sequence[float]) -> str | None:
        """Return how the values of an image differ from those of the training images; ``None`` if they do not.

        Args:
            channel: name of the channel.
            percentiles: 0.5th, 50th and 99.5th percentile of the image.
        """
        known = self.channels.get(channel)
        if known is None:
            return None
        spread = max(known.high.median - known.low.median, 1e-9)
        beyond = SPREADS_BEYOND * spread
        low, _, high = percentiles
        near = known.low.least - beyond <= low <= known.low.largest + beyond
        near &= known.high.least - beyond <= high <= known.high.largest + beyond
        if near and spread / SPREAD_RATIO <= high - low <= spread * SPREAD_RATIO:
            return None
        return (
            f"its values, mostly from {low:.4g} to {high:.4g}, are far from those of the training images, mostly from "
            f"{known.low.median:.4g} to {known.high.median:.4g}"
        )

    def unusual_extent(self, extent: Sequence[float], unit: str) -> str | None:
        """Return how the extent of an image differs from those of the training images; ``None`` if it does not.

        Args:
            extent: of the image per axis, in canonical axis order.
            unit: of the extent, ``mm`` or ``px``.
        """
        if unit != self.unit or len(extent) != len(self.extent):
            return None
        for name, size, known in zip(AXES[-len(extent) :], extent, self.extent, strict=True):
            if not known.least / EXTENT_RATIO <= size <= known.largest * EXTENT_RATIO:
                return (
                    f"its extent of {size:.4g} {unit} over the {name} is far from that of the training images, "
                    f"{known.least:.4g} to {known.largest:.4g} {unit}"
                )
        return None
