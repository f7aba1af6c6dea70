"""Sweeps: the better value is found, hopeless trials are pruned, and a killed sweep goes on with the same trials."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest
import yaml

import cphloc
from cphloc.cli import main
from cphloc.errors import InputError, MissingExtraError, RecipeError
from cphloc.recipe.recipe import load
from cphloc.studies import search
from cphloc.studies.search_space import Range, chosen, read_space
from cphloc.studies.sweep import Sweep, sweep
from cphloc.tracking.run import Run
from cphloc.tracking.server import client_of, tracking_uri
from cphloc.tracking.tracker import run_id
from cphloc.training import checkpoint

RATE = "train.optimizer.lr"
GOOD, BAD = 1e-2, 1e-9


def recipe(steps: int = 24) -> dict:
    size = [24, 24]
    few = {"objects": [1, 1], "distractors": [0, 0], "diameter_mm": [6.0, 10.0], "contrast": 8.0, "positive": 1.0}
    data = {"type": "phantom", "size": size, "cases": {"train": 6, "val": 2, "test": 1}, "patch": size, "workers": 0}
    heads = {"mask": {"type": "unet", "classes": {1: "mass"}, "loss": {"type": "dice_ce"}}}
    optimizer = {"type": "AdamW", "lr": 1e-3}
    return {
        **{"name": "swept", "task": "segmentation", "dims": 2, "data": data | few | {"voxel_mm": [1.0, 1.0]}},
        "model": {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": heads},
        "train": {"steps": steps, "batch": 4, "validate_every": 8, "precision": "32", "optimizer": optimizer},
    }


def values(found: Sweep) -> list[tuple]:
    return [(row["state"], row[RATE], row["value"], row["steps"]) for row in found.trials]


def test_the_better_of_two_values_is_found_and_the_hopeless_one_pruned(at_work, monkeypatch):
    monkeypatch.setattr(search, "STARTUP_TRIALS", 1)
    found = sweep(recipe(), {RATE: [GOOD, BAD]}, trials=3, seed=1)
    assert {row[RATE] for row in found.trials} == {GOOD, BAD}
    assert found.best[RATE] == GOOD
    complete = {row["trial"]: row["value"] for row in found.trials if row["state"] == "complete"}
    assert found.best["value"] == max(complete.values())
    pruned = [row for row in found.trials if row[RATE] == BAD]
    assert [(row["state"], row["steps"]) for row in pruned] == [("pruned", 8)]
    assert load(found.folder / "best.yaml").train.optimizer.args["lr"] == GOOD
    with (found.folder / "trials.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == [row["state"] for row in found.trials]
    # each trial is a run of its own, in MLflow a child of the run of the sweep
    parent = run_id(found.folder)
    client = client_of(tracking_uri())
    for row in found.trials:
        run = Run.open(found.folder / row["run"])
        assert run.finished
        assert client.get_run(run_id(run.folder)).data.tags["mlflow.parentRunId"] == parent
        assert run.recipe.train.optimizer.args["lr"] == row[RATE]
    assert client.get_run(parent).data.tags["cphloc.best_trial"] == str(found.best["trial"])


def test_a_killed_sweep_goes_on_with_the_same_trials(at_work, monkeypatch):
    space = {RATE: {"low": 1e-4, "high": 1e-1, "log": True}, "train.batch": {"low": 2, "high": 4}}
    whole = sweep(recipe(16), space, trials=3, out="whole")
    saves, save = [], checkpoint.save

    def killed(*args):
        """Write the checkpoint; the process dies in the second trial, after its first validation."""
        save(*args)
        saves.append(args[0])
        if [path.parent.name for path in saves].count("0001") == 2:
            raise SystemExit

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(SystemExit):
        sweep(recipe(16), space, trials=3, out="killed")
    monkeypatch.setattr(checkpoint, "save", save)
    resumed = sweep(recipe(16), space, trials=3, out="killed")
    assert values(resumed) == values(whole)
    assert resumed.recipe.sha256 == whole.recipe.sha256
    # a later call with more trials adds to them
    more = sweep(recipe(16), space, trials=4, out="killed")
    assert values(more)[:3] == values(whole)


def test_another_search_in_the_same_folder_is_refused(at_work):
    sweep(recipe(2), {RATE: [GOOD]}, trials=1)
    with pytest.raises(InputError, match="holds a sweep with another seed; choose another folder with --out"):
        sweep(recipe(2), {RATE: [GOOD]}, trials=1, seed=3)


def test_the_command_reads_the_space_of_the_recipe(at_work, capsys):
    space = {RATE: [GOOD], "train.steps": {"low": 2, "high": 3}}
    (at_work / "mine.yaml").write_text(yaml.safe_dump(recipe(2) | {"sweep": space}))
    assert main(["check", "mine.yaml"]) == 0
    capsys.readouterr()
    assert main(["sweep", "mine.yaml", "--trials", "1", "--set", "name=mine", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["best"][RATE] == GOOD
    assert facts["best"]["train.steps"] in (2, 3)
    assert (at_work / "sweeps" / "mine" / "best.yaml").is_file()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({RATE: []}, "no choice"),
        ({RATE: {"low": 2, "high": 1}}, "low must be below high"),
        ({RATE: {"low": 0, "high": 1, "log": True}}, "log needs low above 0"),
        ({RATE: {"low": 1, "hihg": 2}}, "high: Field required"),
        ({RATE: 3}, "neither a range nor a list"),
    ],
)
def test_a_wrong_space_is_refused(space, message):
    with pytest.raises(RecipeError, match=message):
        read_space({}, space)


def test_a_space_is_checked_with_the_recipe_before_anything_is_trained(at_work):
    with pytest.raises(RecipeError, match=r"train.optimzer"):
        sweep(recipe(), {"train.optimzer.lr": [1e-3]})
    with pytest.raises(InputError, match="no search space"):
        sweep(recipe())


def test_values_have_few_digits_and_stay_within_the_range():
    space = {"a": Range(low=0.12345, high=1.0), "b": Range(low=1, high=9)}
    assert chosen(space, {"a": 0.123451, "b": 3}) == {"a": 0.1235, "b": 3}
    assert chosen(space, {"a": 0.12345, "b": 9})["a"] >= 0.12345


def test_a_missing_optuna_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cphloc\[sweep\]'"):
        cphloc.sweep(recipe(), {RATE: [GOOD]})


def test_optuna_is_imported_by_sweeps_alone():
    code = "import sys, cphloc.studies.sweep, cphloc.training.train; print('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
