"""``make zoo-numbers`` finds a card that states other numbers, and measures nothing twice."""

from __future__ import annotations

import pytest

from cphloc.publishing.verify import Check
from cphloc.zoo.entries import Listing

from . import __main__ as numbers
from . import page

CHECKS = [
    Check("entry.yaml", "a@1.0.0", True),
    Check("dice", "value 0.8 (0.8 published)", True, 0.8, 0.8),
    Check("hd95_mm", "value 11.25 (10.5 published)", False, 10.5, 11.25),
    Check("tumour: dice", "value 0.8 (0.8 published)", True, 0.8, 0.8),
    Check("baseline dice", "value 0.5 (0.5 published)", True, 0.5, 0.5),
]


def test_the_page_holds_card_measured_difference_and_verdict():
    text = page.text({"a@1.0.0": CHECKS}, ["b@1.0.0"])
    assert "| a@1.0.0 | dice | 0.8000 | 0.8000 | 0 | agrees |" in text
    assert "| a@1.0.0 | hd95_mm | 10.50 | 11.25 | +7.5e-01 | **differs** |" in text
    assert "| a@1.0.0 | everything |  |  | 4 of 5 agree | **differs** |" in text
    assert "- a@1.0.0, hd95_mm: value 11.25 (10.5 published)" in text
    assert "Not measured: b@1.0.0." in text
    assert "at most 0.002" in text


@pytest.fixture
def zoo(tmp_path, put_entry, own_folders):
    put_entry(tmp_path / "zoo", "a", "1.0.0")
    return tmp_path / "zoo"


def test_what_was_measured_is_kept_until_the_entry_changes(zoo, tmp_path, monkeypatch, put_entry):
    asked = []

    def verify(place, metrics):
        asked.append(str(place))
        return CHECKS[:2]

    monkeypatch.setattr(numbers, "verify", verify)
    options = ["--zoo", str(zoo), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "ZOO.md")]
    assert numbers.main(options) == 0
    assert numbers.main(options) == 0
    assert asked == [str(zoo / "a" / "1.0.0")]
    put_entry(zoo, "a", "1.1.0")
    monkeypatch.setattr(numbers, "verify", lambda place, metrics: CHECKS)
    assert numbers.main(options) == 1
    assert "a@1.1.0" in (tmp_path / "ZOO.md").read_text()
    assert numbers.measure(Listing("a", "1.0.0", zoo / "a" / "1.0.0"), tmp_path / "other", wanted=False) is None
