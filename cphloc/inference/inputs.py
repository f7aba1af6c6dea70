"""Read an image as a model takes it: channels, units and modality, with warnings where it is unlike the training data.

The values of every channel are converted to the unit that the model takes. A file that states its unit (DICOM) is
converted by its tags; one that states none is taken in the unit of the model, unless the user states another. Values
that are impossible in the unit are an error, unlikely ones a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cphloc.data.io.channels import scaled, stacked
from cphloc.data.io.read import Channel, read_volume
from cphloc.data.io.source_files import content_digest
from cphloc.errors import DataError, did_you_mean
from cphloc.structures.fingerprint import Fingerprint, percentiles_of
from cphloc.structures.units import ChannelInput, ScaledUnit, implausible, impossible
from cphloc.structures.volume import Volume

Image = Channel | Mapping[str, Channel]
"""One image: a file, a DICOM folder, an array, or, with several channels, a mapping from channel name to these."""


@dataclass(frozen=True)
class Reading:
    """An image as a model takes it.

    Args:
        volume: the image, with the values of every channel in the unit of the model.
        channels: by channel, its ``modality``, its ``unit``, and by whom the unit is ``stated``: ``file``, ``user`` or
            ``entry``.
        warnings: one line for each way in which the image is unlike what the model was trained on.
    """

    volume: Volume
    channels: dict[str, dict[str, str | None]]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """The channels that a model takes.

    Args:
        channels: modality and unit of each channel, in order.
        dims: number of spatial axes, 2 or 3.
        fingerprint: of the training images, if it is known.
        others: fingerprints of the other models of an ensemble, with which the image is compared as well.
    """

    channels: Mapping[str, ChannelInput]
    dims: int
    fingerprint: Fingerprint | None = None
    others: tuple[Fingerprint | None, ...] = ()

    @property
    def _fingerprints(self) -> tuple[Fingerprint | None, ...]:
        return (self.fingerprint, *self.others)

    def read(
        self,
        source: Image,
        spacing_mm: Sequence[float] | None = None,
        units: Mapping[str, str] | None = None,
        strict: bool = False,
    ) -> Reading:
        """Read an image, convert its channels to the units of the model, and compare it with the training data.

        Channels in files of their own are resampled to the grid of the first channel.

        Args:
            source: a file, a DICOM folder, an array, or a mapping from channel name to these.
            spacing_mm: voxel size in array order, for images that state none.
            units: unit of a channel whose file states none, by channel, such as ``{"pet": "SUV"}``.
            strict: raise an error where there would be a warning; a note of the image says what cannot be checked.

        Raises:
            DataError: the image cannot be read, lacks a channel, is in a unit that cannot be converted, holds values
                that are impossible in its unit, or differs from the training data although ``strict`` is set.
        """
        given = self.parse_units(units or {})
        if isinstance(source, Mapping):
            reading = self._channels(source, spacing_mm, given)
        else:
            only = next(iter(self.channels.values())).unit if len(self.channels) == 1 else None
            volume = read_volume(source, spacing_mm, self.dims, units=(only,))
            reading = self._taken(tuple(self.channels), volume, given)
        extent = self._unusual_extent(reading.volume)
        warnings = (*reading.warnings, *((extent,) if extent else ()))
        if strict and warnings:
            msg = f"{reading.volume.source}: {'; '.join(warnings)}; predict without strict, or correct the image"
            raise DataError(msg)
        volume = reading.volume
        if strict and (unchecked := self._unchecked(volume)):
            volume = replace(volume, notes=(*volume.notes, unchecked))
        return replace(reading, volume=volume, warnings=warnings)

    def _unchecked(self, volume: Volume) -> str:
        """What ``strict`` cannot check for lack of facts about the training data; empty where it checks everything."""
        lacking = (
            [] if all(self._fingerprints) else ["intensities and extent (the model states none of its training images)"]
        )
        unstated = [name for name, channel in self.channels.items() if channel.modality is None]
        if volume.modality is None or unstated:
            lacking.append(f"modality (stated by {'the model' if volume.modality is None else 'the image'} at most)")
        return f"strict could not check: {'; '.join(lacking)}" if lacking else ""

    def parse_units(self, units: Mapping[str, str]) -> dict[str, ScaledUnit]:
        """Parse the units that the user states, and check that they can be converted to those of the model.

        Raises:
            InputError: a unit or channel does not exist, or the unit cannot be converted.
        """
        given = {}
        for name, text in units.items():
            if name not in self.channels:
                hint = did_you_mean(name, self.channels) or f"the channels are {', '.join(self.channels)}"
                msg = f"a unit is stated for '{name}', which is no channel of the model; {hint}"
                raise DataError(msg)
            given[name], wanted = ScaledUnit.parse(text), self.channels[name].unit
            if given[name].unit != wanted.unit:
                msg = (
                    f"the channel '{name}' is taken in {wanted}, to which {given[name].unit} cannot be converted "
                    "without DICOM tags; convert the image first"
                )
                raise DataError(msg)
        return given

    def _channels(
        self, source: Mapping[str, Channel], spacing_mm: Sequence[float] | None, given: Mapping[str, ScaledUnit]
    ) -> Reading:
        """Read each channel from a file of its own."""
        if sorted(source) != sorted(self.channels):
            msg = f"the model takes the channels {', '.join(self.channels)}, got {', '.join(source)}; name each of them"
            raise DataError(msg)
        readings = []
        for name, wanted in self.channels.items():
            volume = read_volume(source[name], spacing_mm, self.dims, units=(wanted.unit,))
            if volume.channels > 1 and len(self.channels) > 1:
                msg = f"{volume.source}: holds {volume.channels} channels; pass it alone, or one channel for '{name}'"
                raise DataError(msg)
            readings.append(self._taken((name,), volume, given))
        volumes = [reading.volume for reading in readings]
        return Reading(
            stacked(volumes) if len(volumes) > 1 else volumes[0],
            {name: facts for reading in readings for name, facts in reading.channels.items()},
            tuple(warning for reading in readings for warning in reading.warnings),
        )

    def _taken(self, names: Sequence[str], volume: Volume, given: Mapping[str, ScaledUnit]) -> Reading:
        """Convert the channels ``names`` of an image to the units of the model, and check their values."""
        channels, warnings, factors = {}, [], np.ones(volume.channels)
        for number, name in enumerate(names):
            place = min(number, volume.channels - 1)  # a grey picture stands for all channels
            wanted, stated = self.channels[name], given.get(name)
            by = _stated_by(volume, name, wanted, stated)
            if by == "user" and stated is not None:
                factors[place] = wanted.unit.factor / stated.factor
            warnings += self._unlike(name, _times(volume.array[place], factors[place]), volume, by)
            channels[name] = {"modality": wanted.modality, "unit": str(wanted.unit), "stated": by}
        return Reading(scaled(volume, factors), channels, tuple(warnings))

    def _unlike(self, name: str, values: np.ndarray, volume: Volume, by: str) -> list[str]:
        """Warnings about one channel; raises a `DataError` for values that are impossible in its unit."""
        wanted, warnings = self.channels[name], []
        if None not in (volume.modality, wanted.modality) and volume.modality != wanted.modality:
            what = f"the series is {volume.modality}, and the model was trained on {wanted.description}"
            warnings.append(f"channel '{name}': {what}")
        extremes = float(values.min()), float(values.max())
        if reason := impossible(extremes, wanted.unit):
            hint = f"state another unit than {wanted.unit} for '{name}', or convert the image"
            msg = f"{volume.source}: channel '{name}': {reason}; {hint}"
            raise DataError(msg)
        percentiles = percentiles_of(values)
        if reason := implausible(percentiles, wanted.unit):
            warnings.append(f"channel '{name}': {reason}{_better_unit(name, percentiles, wanted.unit, by)}")
        elif reason := _first(known.unusual_values(name, percentiles) for known in self._fingerprints if known):
            warnings.append(f"channel '{name}': {reason}")
        return warnings

    def _unusual_extent(self, volume: Volume) -> str | None:
        """Return a warning for an image that is much larger or smaller than those of the training."""
        grid = volume.geometry.reoriented(*volume.geometry.canonical())
        extent = [n * s for n, s in zip(grid.shape, grid.spacing_mm, strict=True)]
        return _first(known.unusual_extent(extent, grid.unit) for known in self._fingerprints if known)


def _first(reasons: Iterable[str | None]) -> str | None:
    """Return the first reason, which is similar for all models of an ensemble that have one."""
    return next((reason for reason in reasons if reason), None)


def content_hashes(source: Image) -> dict[str, str]:
    """Return the SHA-256 of everything that is read for an image, by absolute path; arrays are left out.

    Args:
        source: as for `Inputs.read`.

    Raises:
        DataError: a file cannot be read.
    """
    channels = list(source.values()) if isinstance(source, Mapping) else [source]
    files = [str(Path(channel).absolute()) for channel in channels if isinstance(channel, str | Path)]
    return {file: content_digest(file).hex() for file in files}


def _times(values: np.ndarray, factor: float) -> np.ndarray:
    return values if factor == 1 else values * np.float32(factor)


def _stated_by(volume: Volume, name: str, wanted: ChannelInput, stated: ScaledUnit | None) -> str:
    """By whom the unit of a channel is stated: ``file``, ``user`` or ``entry``."""
    of_file = volume.scan.unit
    if of_file is None or wanted.unit.unit == "arbitrary":
        return "entry" if stated is None else "user"
    if of_file != wanted.unit.unit:
        msg = f"{volume.source}: channel '{name}': its values are in {of_file}, but {wanted.unit} is needed"
        raise DataError(f"{msg}; convert the image first")
    return "file"


def _better_unit(name: str, percentiles: Sequence[float], wanted: ScaledUnit, by: str) -> str:
    """Advice to state the unit without its factor, where the values are plausible in it."""
    plain = ScaledUnit(wanted.unit)
    if by != "entry" or wanted == plain or implausible(percentiles, plain):
        return ""
    return f"; if the image is in {plain}, state it: --unit {name}={plain}"
