"""Units of voxel values: the one table of units, and the unit in which a model takes each of its channels.

A channel is written as a unit with an optional factor, such as ``HU`` or ``SUV x 100``: the stored value is the value
in the unit times the factor.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cphloc.errors import InputError, did_you_mean

Range = tuple[float, float]


@dataclass(frozen=True)
class Unit:
    """One unit of voxel values.

    Args:
        name: as recipes, data set cards, entries and ``--unit`` write it.
        meaning: what it measures, with reference values.
        modality: DICOM modality whose images have this unit; ``None`` for any.
        possible: range of the values that an image can have; others are refused.
        low: range in which the 0.5th percentile of an image lies, where its values are what they are said to be.
        high: range of the 99.5th percentile.
        least_spread: smallest difference of these percentiles.
        hint: which reference values an image that is outside these ranges lacks.
    """

    name: str
    meaning: str
    modality: str | None = None
    possible: Range = (-math.inf, math.inf)
    low: Range = (-math.inf, math.inf)
    high: Range = (-math.inf, math.inf)
    least_spread: float = 0.0
    hint: str = ""


UNITS: Mapping[str, Unit] = {
    unit.name: unit
    for unit in (
        Unit(
            "HU",
            "CT numbers (water 0, air -1000)",
            "CT",
            possible=(-32768.0, 100_000.0),
            low=(-32768.0, -1.0),
            high=(-300.0, 5000.0),
            least_spread=30.0,
            hint="Hounsfield units (HU) are about -1000 in air, -100 in fat, 0 in water and 1000 in bone",
        ),
        Unit(
            "SUV",
            "standardized uptake value by body weight, g/mL",
            "PT",
            possible=(-5.0, 1000.0),
            low=(-5.0, 10.0),
            high=(0.3, 60.0),
            hint="SUV is about 1 in most tissue and 2 to 20 in a tumour",
        ),
        Unit("Bq/mL", "activity concentration", "PT", possible=(-1e6, 1e9)),
        Unit("arbitrary", "intensities without a physical unit"),
    )
}
"""Every unit by name."""

MODALITIES_OF_CHANNELS = {
    "ct": "CT",
    "pet": "PT",
    "pt": "PT",
    "us": "US",
    "ultrasound": "US",
    "mr": "MR",
    "mri": "MR",
    "mg": "MG",
} | dict.fromkeys(
    ("t1", "t1w", "t1c", "t1ce", "t1gd", "t1n", "t2", "t2w", "t2f", "flair", "adc", "dwi", "pd", "swi"), "MR"
)
"""DICOM modality of a channel by its usual names in lower case, where a data set does not state it."""

_TEXT = re.compile(r"\s*(?P<unit>[A-Za-z/]+?)\s*(?:[x*\u00d7]\s*(?P<factor>\S+))?\s*")


@dataclass(frozen=True)
class ScaledUnit:
    """A unit with a factor: the stored value is the value in the unit times the factor.

    Args:
        unit: name of a unit of `UNITS`.
        factor: above 0; 100 for SUV that is stored times 100.

    >>> str(ScaledUnit.parse("SUV x 100")), ScaledUnit.parse("HU").factor
    ('SUV x 100', 1.0)
    """

    unit: str
    factor: float = 1.0

    @classmethod
    def parse(cls, text: str) -> ScaledUnit:
        """Parse a unit as recipes, cards and the command line write it.

        Raises:
            InputError: there is no such unit, or the factor is not a positive number.
        """
        found = _TEXT.fullmatch(text)
        names = {name.lower(): name for name in UNITS}
        stated = "" if found is None else found["unit"]
        if found is None or stated.lower() not in names:
            hint = did_you_mean(stated, UNITS) or f"choose one of {', '.join(UNITS)}, such as 'SUV x 100'"
            msg = f"no unit '{text}'; {hint}"
            raise InputError(msg)
        try:
            factor = float(found["factor"] or 1)
        except ValueError:
            factor = math.nan
        if not (factor > 0 and math.isfinite(factor)):
            msg = f"unit '{text}': the factor must be a number above 0, as in 'SUV x 100'"
            raise InputError(msg)
        return cls(names[stated.lower()], factor)

    def __str__(self) -> str:
        return self.unit if self.factor == 1 else f"{self.unit} x {self.factor:g}"


@dataclass(frozen=True)
class ChannelInput:
    """What a model takes as one of its channels.

    Args:
        modality: DICOM modality, such as ``CT``, ``PT`` and ``MR``; ``None`` where it is not stated.
        unit: unit and factor of the values.
    """

    modality: str | None
    unit: ScaledUnit

    @property
    def description(self) -> str:
        """Modality and unit as one phrase: ``CT in HU``, ``MR in arbitrary units``."""
        unit = "arbitrary units" if self.unit.unit == "arbitrary" else str(self.unit)
        return f"{self.modality or 'images'} in {unit}"


def channel_inputs(
    channels: Sequence[str],
    units: Mapping[str, str] | None = None,
    modalities: Mapping[str, str] | None = None,
) -> dict[str, ChannelInput]:
    """Determine modality and unit of each channel from what a data set states, else from the channel's name.

    Args:
        channels: names of the channels.
        units: unit by channel, as `ScaledUnit.parse` reads it.
        modalities: DICOM modality by channel.

    Raises:
        InputError: a unit is stated for a channel that does not exist, or does not exist itself.

    >>> channel_inputs(["ct", "t2"])["ct"].description
    'CT in HU'
    """
    units, modalities = units or {}, modalities or {}
    for name in units:
        if name not in channels:
            hint = did_you_mean(name, channels) or f"the channels are {', '.join(channels)}"
            msg = f"a unit is stated for the channel '{name}', which does not exist; {hint}"
            raise InputError(msg)
    inputs = {}
    for name in channels:
        stated = ScaledUnit.parse(units[name]) if name in units else None
        of_unit = UNITS[stated.unit].modality if stated is not None else None
        modality = modalities.get(name) or of_unit or MODALITIES_OF_CHANNELS.get(name.lower())
        inputs[name] = ChannelInput(modality, stated or ScaledUnit("HU" if modality == "CT" else "arbitrary"))
    return inputs


def units_by_channel(texts: Sequence[str]) -> dict[str, str]:
    """Parse ``CHANNEL=UNIT`` as the command line and requests write it; several may be separated by commas.

    Raises:
        InputError: a text has another form.

    >>> units_by_channel(["ct=HU,pet=SUV x 100"])
    {'ct': 'HU', 'pet': 'SUV x 100'}
    """
    pairs = [part.partition("=") for text in texts for part in text.split(",")]
    for name, sign, unit in pairs:
        if not (name and sign and unit):
            msg = f"a unit is stated as CHANNEL=UNIT, such as pet=SUV; got '{name}{sign}{unit}'"
            raise InputError(msg)
    return {name.strip(): unit.strip() for name, _, unit in pairs}


def impossible(extremes: Range, unit: ScaledUnit) -> str | None:
    """Return why values cannot be of a unit, such as an SUV of -10; ``None`` where they can.

    Args:
        extremes: lowest and highest value of one channel, as stored in ``unit``.
        unit: its unit and factor.
    """
    low, high = UNITS[unit.unit].possible
    least, largest = (value / unit.factor for value in extremes)
    if least >= low and largest <= high:
        return None
    return f"its values from {least:.4g} to {largest:.4g} {unit.unit} are impossible; {UNITS[unit.unit].hint}"


def implausible(percentiles: Sequence[float], unit: ScaledUnit) -> str | None:
    """Return why values are hardly of a unit, such as a CT of 0 to 255; ``None`` where they may be.

    Args:
        percentiles: 0.5th, 50th and 99.5th percentile of one channel in ``unit``.
        unit: its unit and factor.
    """
    of = UNITS[unit.unit]
    low, _, high = (value / unit.factor for value in percentiles)
    within = of.low[0] <= low <= of.low[1] and of.high[0] <= high <= of.high[1]
    if within and high - low >= of.least_spread:
        return None
    return f"its values, mostly from {low:.4g} to {high:.4g}, are hardly {unit.unit}; {of.hint}"


def assumed_units(channels: Mapping[str, Mapping[str, object]]) -> str | None:
    """Return one line on the channels whose unit no file states; ``None`` where each is stated or arbitrary.

    Args:
        channels: by channel, its ``unit`` and by whom it is ``stated``, as in `cphloc.inference.inputs.Reading`.
    """
    taken = {
        name: ScaledUnit.parse(str(facts["unit"])) for name, facts in channels.items() if facts["stated"] == "entry"
    }
    named = [f"{name} as {_meaning(unit)}" for name, unit in taken.items() if unit.unit != "arbitrary"]
    if not named:
        return None
    return f"no unit in the file; taken in that of the model: {', '.join(named)}"


def _meaning(unit: ScaledUnit) -> str:
    """Unit for display: its meaning, and its name where it has a factor, so that the factor is seen."""
    meaning = UNITS[unit.unit].meaning
    return meaning if unit.factor == 1 else f"{unit} ({meaning})"
