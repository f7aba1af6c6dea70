"""``cphloc screen`` for the entries that ship with the package."""

from __future__ import annotations

import json

import pytest
import yaml

from cphloc import paths
from cphloc.cli import main

LABELS = ["attention2d-breast-ultrasound", "attention3d-ct"]


@pytest.mark.parametrize("name", LABELS)
def test_an_entry_with_image_labels_is_screened_at_its_measured_sensitivity(name, capsys):
    newest = sorted((paths.shipped("zoo") / name).glob("*/entry.yaml"))[-1]
    entry = yaml.safe_load(newest.read_text())
    measured = entry["evaluation"]["metrics"]["sensitivity_at_90"]
    assert main(["screen", name, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sensitivity"] == {key: measured[key] for key in ("value", "low", "high")}
    triage = facts["ways"][1]  # both reader, who finds 5 of 6 cancers, and model must find one
    assert triage["true_positive"] == pytest.approx(5 * measured["value"])
    assert main(["screen", name]) == 0
    assert f"sensitivity {measured['value']:.3f} (95 % interval {measured['low']:.3f}" in capsys.readouterr().out


def test_an_entry_without_image_labels_is_refused(capsys):
    assert main(["screen", "unet3d-hippocampus"]) == 2
    assert "was not measured on image labels (no sensitivity_at_90)" in capsys.readouterr().err
