"""One batch is overfitted, or the check reports that it was not and why that matters."""

from __future__ import annotations

import json

import yaml

from cphloc.cli import main


def test_a_model_that_learns_passes_and_leaves_nothing(tiny, at_work, capsys):
    (at_work / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    fast = ["--set", "train.steps=300", "--set", "train.optimizer.lr=0.02", "--set", "model.backbone.widths=[8, 16]"]
    assert main(["train", "tiny.yaml", "--overfit", "--json", *fast]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    assert found["last"] <= 0.25 * found["first"]
    assert found["steps"] < 300, "it stops as soon as the loss is low enough"
    assert [path.name for path in at_work.iterdir()] == ["tiny.yaml"]


def test_a_model_that_does_not_learn_fails_with_advice(tiny, at_work, capsys):
    (at_work / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    assert main(["train", "tiny.yaml", "--overfit", "--set", "train.optimizer.lr=1e-9"]) == 1
    printed = capsys.readouterr().out
    assert "in 4 steps, not to 25% of its first value" in printed
    assert "will not learn a data set" in printed
