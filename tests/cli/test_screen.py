"""``cphloc screen`` for the entries that ship with the package."""

from __future__ import annotations

import json

import pytest
import yaml

from cphloc import paths
from cphloc.cli import main

LABELS = ["attention2d-breast-ultrasound", "attention3d-ct"]


@pytest.mark.parametrize("name", LABELS)
def test_without_its_data_an_entry_is_screened_at_the_sensitivity_of_its_card(name, capsys, monkeypatch):
    monkeypatch.delenv("CPHLOC_DATA", raising=False)
    newest = sorted((paths.shipped("zoo") / name).glob("*/entry.yaml"))[-1]
    entry = yaml.safe_load(newest.read_text())
    measured = entry["evaluation"]["metrics"]["sensitivity_at_90"]
    assert main(["screen", name, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sensitivity"] == {key: measured[key] for key in ("value", "low", "high")}
    triage = facts["ways"][1]  # both reader, who finds 5 of 6 cancers, and model must find one
    assert triage["true_positive"] == triage["found"]["value"] == pytest.approx(5 * measured["value"])
    assert main(["screen", name]) == 0
    printed = capsys.readouterr().out
    assert f"sensitivity {measured['value']:.3f} ({measured['low']:.3f} to" in printed
    assert "whose threshold was chosen on the test cases themselves" in printed


def test_an_entry_without_image_labels_is_refused(capsys, monkeypatch):
    monkeypatch.delenv("CPHLOC_DATA", raising=False)
    assert main(["screen", "unet3d-hippocampus"]) == 2
    assert "was not measured on image labels (no sensitivity_at_90)" in capsys.readouterr().err
