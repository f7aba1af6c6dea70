"""Units of voxel values: how they are written, and which values each can have."""

from __future__ import annotations

import pytest

from cphloc.errors import InputError
from cphloc.structures.units import ScaledUnit, assumed_units, channel_inputs, implausible, impossible


@pytest.mark.parametrize(
    ("text", "unit", "factor", "written"),
    [
        ("HU", "HU", 1.0, "HU"),
        (" suv ", "SUV", 1.0, "SUV"),
        ("SUV x 100", "SUV", 100.0, "SUV x 100"),
        ("bq/ml*0.5", "Bq/mL", 0.5, "Bq/mL x 0.5"),
        ("arbitrary \u00d7 2", "arbitrary", 2.0, "arbitrary x 2"),
        ("HU x 1", "HU", 1.0, "HU"),
    ],
)
def test_a_unit_is_read_and_written(text, unit, factor, written):
    found = ScaledUnit.parse(text)
    assert (found.unit, found.factor, str(found)) == (unit, factor, written)
    assert ScaledUnit.parse(str(found)) == found


@pytest.mark.parametrize("text", ["", "kelvin", "SUV x", "SUV x 0", "SUV x -1", "SUV x nan", "SUV x inf", "SUV x ten"])
def test_what_is_no_unit_is_refused(text):
    with pytest.raises(InputError, match="unit '"):
        ScaledUnit.parse(text)


def test_a_channel_is_what_is_stated_else_what_its_name_says():
    found = channel_inputs(["ct", "T2", "uptake", "x", "y"], {"uptake": "SUV x 10"}, {"x": "CT"})
    assert {name: (one.modality, str(one.unit)) for name, one in found.items()} == {
        "ct": ("CT", "HU"),
        "T2": ("MR", "arbitrary"),
        "uptake": ("PT", "SUV x 10"),
        "x": ("CT", "HU"),
        "y": (None, "arbitrary"),
    }
    with pytest.raises(InputError, match=r"the channel 'cd', which does not exist; the channels are ct"):
        channel_inputs(["ct"], {"cd": "HU"})


@pytest.mark.parametrize(
    ("unit", "least", "largest", "possible"),
    [
        ("HU", -1024, 3071, True),
        ("HU", -40_000, 3071, False),
        ("HU", -1024, 200_000, False),
        ("SUV", -1, 50, True),
        ("SUV", -10, 50, False),
        ("SUV", 0, 5000, False),
        ("SUV x 100", -100, 5000, True),
        ("SUV x 100", 0, 200_000, False),
        ("arbitrary", -1e12, 1e12, True),
    ],
)
def test_impossible_values_are_told_in_the_unit(unit, least, largest, possible):
    scaled = ScaledUnit.parse(unit)
    message = impossible((least, largest), scaled)
    assert (message is None) == possible
    if message is not None:
        assert f"from {least / scaled.factor:.4g} to {largest / scaled.factor:.4g} {scaled.unit}" in message


@pytest.mark.parametrize(
    ("unit", "percentiles", "plausible"),
    [
        ("HU", (-1000, 20, 1200), True),
        ("HU", (-1, 0, 255), True),
        ("HU", (0, 100, 255), False),
        ("HU", (-1000, -1000, -990), False),
        ("HU", (-400, -395, -290), True),
        ("HU", (-20, -10, 9), False),
        ("HU", (-1000, 20, 6000), False),
        ("HU x 2", (-2000, 40, 2400), True),
        ("SUV", (-1, 1, 12), True),
        ("SUV", (0, 900, 8000), False),
        ("SUV", (0, 0, 0.1), False),
        ("SUV x 100", (0, 90, 800), True),
        ("arbitrary", (0, 0, 0), True),
    ],
)
def test_implausible_percentiles_are_noticed(unit, percentiles, plausible):
    assert (implausible(percentiles, ScaledUnit.parse(unit)) is None) == plausible


@pytest.mark.parametrize("percentiles", [(0, 0.9, 1), (24, 1004, 1324), (-2048, -1044, -724), (-2, 0.1, 2)])
def test_a_ct_that_is_scaled_shifted_or_standardized_is_noticed(percentiles):
    assert implausible(percentiles, ScaledUnit.parse("HU")) is not None


def test_units_that_are_taken_from_the_model_are_said():
    channels = {
        "ct": {"unit": "HU", "stated": "entry"},
        "pet": {"unit": "SUV x 100", "stated": "entry"},
        "t1": {"unit": "arbitrary", "stated": "entry"},
    }
    said = assumed_units(channels)
    assert said is not None
    assert "ct as CT numbers (water 0, air -1000)" in said
    assert "pet as SUV x 100" in said
    assert "t1" not in said
    assert assumed_units({"pet": {"unit": "SUV", "stated": "user"}}) is None
