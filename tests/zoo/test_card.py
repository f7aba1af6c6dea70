from __future__ import annotations

import pytest

from cphloc.zoo.card import card, stated, verdict
from cphloc.zoo.entry import Entry, Metric


@pytest.fixture
def entry(entry_facts):
    return Entry.model_validate(entry_facts("unet3d-ct", "1.2.0"))


@pytest.mark.parametrize(
    "text",
    [
        "# unet3d-ct 1.2.0",
        "| dice | 0.800 [0.750, 0.850] | 0.600 [0.550, 0.650] | 8 |",
        "| tumour | 0.800 [0.750, 0.850] |",
        "On the 8 cases of the test split",
        "It beats the baseline in dice, with intervals apart.",
        "- Never tested on children.",
        "Research on volumetry; not for diagnosis.",
        "CC BY 3.0",
        "Vallieres et al. 2015",
        'cphloc.load("unet3d-ct@1.2.0")',
        "cphloc verify unet3d-ct@1.2.0 --metrics",
        "3 x 2 x 2 mm",
        "1,400,000",
        "seed 0",
    ],
)
def test_the_card_states(entry, text):
    assert text in card(entry)


def baseline(entry, value):
    low, high = value - 0.05, value + 0.05
    metrics = {"dice": Metric(value=value, low=low, high=high, n=8)}
    return entry.model_copy(update={"baseline": entry.baseline.model_copy(update={"metrics": metrics})})


def test_an_entry_that_does_not_beat_its_baseline_says_so(entry):
    assert verdict(baseline(entry, 0.69)).startswith("It beats")
    assert "does not beat" in verdict(baseline(entry, 0.72))
    assert "does not beat" in card(baseline(entry, 0.9))


def test_of_distances_the_smaller_is_better(entry_facts):
    facts = entry_facts("unet3d-ct", "1.2.0")
    facts["evaluation"]["metrics"] = {"hd95_mm": {"value": 5.0, "low": 4.0, "high": 6.0, "n": 8}}
    facts["baseline"]["metrics"] = {"hd95_mm": {"value": 9.0, "low": 8.0, "high": 10.0, "n": 8}}
    assert verdict(Entry.model_validate(facts)).startswith("It beats")


def test_an_undefined_metric_is_said_to_be():
    assert stated(Metric(value=None, low=None, high=None, n=0, n_undefined=4)) == "undefined"


def test_a_bar_in_a_name_does_not_break_a_table(entry):
    odd = entry.model_copy(update={"classes": {1: "a|b"}})
    assert "1 a\\|b" in card(odd)
