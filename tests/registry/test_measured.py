"""What cards state about measurements, compared with the results of the studies or systems that they name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cphloc.cli.show import MEASURED
from cphloc.registry import catalogue
from cphloc.studies.page import REPEAT

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "recipes" / "lecture" / "results"
SYSTEMS = json.loads((ROOT / "docs" / "generate" / "systems.json").read_text(encoding="utf-8"))["systems"]
STATED = [card for kind in MEASURED for card in catalogue.cards(kind).values() if card.measured]


def numbers(value):
    """All numbers in the rows of a result."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for each in value for number in numbers(each)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def measured(source):
    """All numbers that a card may state: those of a study, or the scores of systems."""
    if source.startswith("systems "):
        return [SYSTEMS[name]["score"] for name in source.removeprefix("systems ").split(", ")]
    study = source.removeprefix("lecture ")
    (path,) = (path for path in RESULTS.glob(f"{study}-*.json") if not path.stem.endswith(REPEAT))
    return numbers([row["metrics"] for row in json.loads(path.read_text(encoding="utf-8"))["rows"]])


@pytest.mark.parametrize("card", STATED, ids=lambda card: f"{card.kind}/{card.name}")
def test_every_number_of_a_card_is_one_of_what_it_names(card):
    (source,) = re.findall(r"\((lecture e\d\d|systems [^()]+)\)$", card.measured)
    found = measured(source)
    stated = re.findall(r"\d*\.\d{3}\b", card.measured)
    assert stated
    assert [text for text in stated if not any(abs(float(text) - number) <= 0.00051 for number in found)] == []


def test_at_least_twenty_components_state_a_measurement():
    assert len(STATED) >= 20
