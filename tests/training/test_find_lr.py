"""The range test on a problem whose largest stable rate is known, and on a recipe."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import yaml

from cphloc.cli import main
from cphloc.training.find_lr import HIGHEST, STEPS, rate_at, suggestion

RATES = np.array([rate_at(step) for step in range(STEPS)])


@pytest.mark.parametrize("curvature", [0.5, 10.0, 1000.0])
def test_the_suggestion_is_stable_on_a_parabola_and_not_timid(curvature):
    """Gradient descent on curvature / 2 * w**2 is stable exactly below 2 / curvature."""
    weight, losses = 1.0, []
    for rate in RATES:
        losses.append(curvature / 2 * weight**2)
        if losses[-1] > 4 * losses[0]:
            break
        weight -= rate * curvature * weight
    found = suggestion(RATES[: len(losses)], np.array(losses))
    assert 0.02 / curvature < found < 2 / curvature


def test_no_rate_is_suggested_where_the_loss_only_rises():
    assert suggestion(RATES, np.linspace(1, 2, STEPS)) is None


def test_the_command_writes_the_curve_and_changes_nothing_else(tiny, at_work, capsys):
    (at_work / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    before = (at_work / "tiny.yaml").read_text()
    assert main(["train", "tiny.yaml", "--find-lr"]) == 0
    printed = capsys.readouterr().out
    rate = float(printed.split("train.optimizer.lr=")[1].split()[0])
    assert 1e-6 < rate < HIGHEST
    files = {str(path.relative_to(at_work)) for path in at_work.rglob("*") if path.is_file()}
    assert files == {"tiny.yaml", "runs/tiny/lr-range.png", "runs/tiny/lr-range.csv"}
    assert (at_work / "tiny.yaml").read_text() == before
    with (at_work / "runs/tiny/lr-range.csv").open() as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(rates, RATES[: len(rates)], rtol=1e-4)
    assert len(rates) > 30


def test_the_command_wants_a_recipe_and_one_process(capsys):
    assert main(["train", "--find-lr"]) == 2
    assert main(["train", "demo", "--find-lr", "--devices", "2"]) == 2
    assert "in one process" in capsys.readouterr().err
