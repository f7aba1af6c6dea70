"""What cards state about measurements, compared with the results of the studies that they name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cphloc.cli.show import MEASURED
from cphloc.registry import catalogue
from cphloc.studies.page import REPEAT

RESULTS = Path(__file__).parents[2] / "recipes" / "lecture" / "results"
STATED = [card for kind in MEASURED for card in catalogue.cards(kind).values() if card.measured]


def numbers(value):
    """All numbers in the rows of a result."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for each in value for number in numbers(each)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


@pytest.mark.parametrize("card", STATED, ids=lambda card: f"{card.kind}/{card.name}")
def test_every_number_of_a_card_is_one_of_the_study_that_it_names(card):
    (study,) = re.findall(r"\(lecture (e\d\d)\)", card.measured)
    (path,) = (path for path in RESULTS.glob(f"{study}-*.json") if not path.stem.endswith(REPEAT))
    found = numbers([row["metrics"] for row in json.loads(path.read_text())["rows"]])
    stated = re.findall(r"\d*\.\d{3}\b", card.measured)
    assert stated
    assert [text for text in stated if not any(abs(float(text) - number) <= 0.00051 for number in found)] == []


def test_at_least_twenty_components_state_a_measurement():
    assert len(STATED) >= 20
