"""An ensemble applies what all of its members apply."""

from __future__ import annotations

import pytest

from cphloc.structures.options import Options, shared_options


def test_an_ensemble_applies_the_mean_of_what_all_members_state():
    first = Options(min_probability={"cyst": 0.2, "mass": 0.5}, thresholds={"mask": 0.4}, min_size={"cyst": 2.0})
    second = Options(min_probability={"cyst": 0.4}, thresholds={"mask": 0.6}, min_size={"cyst": 4.0}, largest=["mass"])
    shared = shared_options([first, second])
    assert shared.stated == {
        "thresholds": {"mask": 0.5},
        "min_probability": {"cyst": pytest.approx(0.3)},
        "min_size": {"cyst": 3.0},
    }
    assert shared.filtered == {"cyst"}


def test_mirrored_views_and_temperature_are_left_to_the_members():
    assert shared_options([Options(tta=True, temperature=2.0)] * 2) == Options()
