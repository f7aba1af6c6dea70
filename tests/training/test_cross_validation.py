"""Cross-validation: every case is predicted by a network that has not seen it, also after a kill."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import cphloc
from cphloc.cli import main
from cphloc.config.tables import text_of
from cphloc.data.pipeline.pipeline import open_undivided
from cphloc.errors import DataError, InputError
from cphloc.evaluation.baseline import Baseline
from cphloc.evaluation.evaluate import evaluate
from cphloc.evaluation.out_of_fold import OutOfFold, predict_held_out
from cphloc.evaluation.prediction import CasePrediction, case_prediction
from cphloc.evaluation.stored_predictions import StoredPrediction
from cphloc.metrics.bootstrap import interval
from cphloc.tracking.run import Run
from cphloc.training import checkpoint
from cphloc.training.cross_validation import cross_validate
from cphloc.training.train import train
from cphloc.zoo.load import load

DIMS = (2, 3)

PATIENT = r"phantom_(?:train_000|val_000)?(.+)"
"""train_0001 and val_0001 are of patient 1; every test case is of a patient of its own."""


def recipe(dims: int, steps: int = 4) -> dict:
    """A recipe of seconds on a phantom of eight cases of five patients."""
    size = [24, 24] if dims == 2 else [8, 24, 24]
    few = {"objects": [1, 1], "distractors": [0, 0], "diameter_mm": [4.0, 6.0], "voxel_mm": [1.0] * dims}
    cases = {"train": 5, "val": 3, "test": 3}
    data = {"type": "phantom", "size": size, "cases": cases, "patch": size, "workers": 0, "patient": PATIENT, **few}
    heads = {"mask": {"type": "unet", "classes": {1: "mass"}, "loss": {"type": "dice_ce"}}}
    return {
        **{"name": f"phantom{dims}", "task": "segmentation", "dims": dims},
        **{"data": data, "model": {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": heads}},
        "train": {"steps": steps, "batch": 2, "validate_every": 2, "precision": "32"},
    }


@pytest.fixture(scope="module", params=DIMS)
def finished(request, tmp_path_factory, mlflow_store):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        patch.setenv("CPHLOC_CACHE", str(tmp_path_factory.getbasetemp() / "cphloc-cache"))
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
        yield cross_validate(recipe(request.param), 2)


def table(run: Run) -> list[dict[str, str]]:
    with (run.folder / "cases.csv").open(newline="") as file:
        return [{k: text_of(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_no_network_has_seen_the_patients_whose_cases_it_predicts(finished):
    dataset = open_undivided(finished.recipe.data, finished.recipe.dims)
    patients = {case.id: case.patient for split in ("train", "val") for case in dataset.cases(split)}
    rows = table(finished)
    assert sorted(row["case"] for row in rows) == sorted(patients)
    assert {row["case"]: row["patient"] for row in rows} == patients
    for fold in (1, 2):
        seen = json.loads((finished.folder / f"fold-{fold}" / "data.json").read_text())["cases"]
        predicted = {row["case"] for row in rows if row["fold"] == str(fold)}
        trained = set(seen["train"])
        assert trained | predicted == set(patients) > predicted > set()
        assert not {patients[id] for id in trained} & {patients[id] for id in predicted}


def test_the_stored_prediction_is_that_of_the_network_of_its_fold(finished):
    found = OutOfFold(finished)
    for fold in (1, 2):
        localizer = load(found.run.fold_folders[fold - 1], backend="torch")
        case = found.held_out(fold)[0]
        again = localizer.predict(case.images[0])
        stored = StoredPrediction.load(found.path(fold, case))
        assert np.array_equal(stored.prediction.mask, again.masks)
        _, maps = localizer.predict_maps(localizer.read(case.images[0]))
        assert np.abs(stored.maps - maps).max() <= 0.5 / 255 + 1e-6


def test_the_weights_are_the_last_ones_not_those_that_suit_the_held_out_cases(finished):
    for folder in finished.fold_folders:
        assert checkpoint.read_facts(folder / checkpoint.BEST)["step"] == 4
    with pytest.raises(InputError, match=r"train\.patience: would stop the training by the cases of the fold"):
        train({**recipe(2), "train": {**recipe(2)["train"], "patience": 1}}, fold="1/2")


def test_intervals_are_by_patient_and_the_difference_is_paired_by_case(finished):
    rows, facts = table(finished), json.loads((finished.folder / "evaluation-out_of_fold.json").read_text())
    values = [float(row["dice"] or "nan") for row in rows]
    expected = interval(values, [row["patient"] for row in rows])
    assert facts["metrics"]["dice"]["low"] == pytest.approx(expected.low)
    assert facts["metrics"]["dice"]["high"] == pytest.approx(expected.high)
    gains = [float(row["dice"] or "nan") - float(row["dice_baseline"] or "nan") for row in rows]
    assert facts["paired"]["metrics"]["dice"]["value"] == pytest.approx(np.nanmean(gains))
    assert facts["patients"] == len({row["patient"] for row in rows}) == 5
    assert finished.metrics["out_of_fold/dice"] == pytest.approx(np.nanmean(values))


def test_the_baseline_of_a_fold_is_of_its_own_training_cases(finished):
    found = OutOfFold(finished)
    for fold in (1, 2):
        train_cases, _ = found.division.split(fold)
        masks = [geometry_mask(case) for case in train_cases]
        stored = Baseline.load(finished.fold_folders[fold - 1] / "baseline.npz", finished.recipe.dims, 1)
        assert np.allclose(stored.shape.shares[0] / 240, np.mean(masks, axis=0), atol=1 / 240)


def geometry_mask(case):
    from cphloc.data.case import read_case
    from cphloc.structures.volume import reoriented

    volume, annotation = read_case(case)
    return reoriented(annotation.mask == 1, *volume.geometry.canonical())


def test_options_can_be_compared_on_the_stored_predictions(finished):
    found = OutOfFold(finished)
    same = found.scores().values()["dice"]
    assert same == pytest.approx(finished.metrics["out_of_fold/dice"])
    nothing = found.scores(lambda stored, geometry: CasePrediction(mask=np.zeros_like(stored.prediction.mask)))
    assert nothing.values()["dice"] == 0


def test_the_folds_are_children_of_one_run_in_mlflow(finished):
    from mlflow.tracking import MlflowClient

    state = json.loads((finished.folder / "tracking.json").read_text())
    client = MlflowClient(state["uri"])
    parent = client.get_run(state["run_id"])
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["out_of_fold/dice"] == pytest.approx(finished.metrics["out_of_fold/dice"])
    assert {"out_of_fold/dice_ci_low", "out_of_fold/dice_baseline", "out_of_fold/dice_paired"} <= set(
        parent.data.metrics
    )
    for folder in finished.fold_folders:
        child = client.get_run(json.loads((folder / "tracking.json").read_text())["run_id"])
        assert child.data.tags["mlflow.parentRunId"] == state["run_id"]
        assert child.info.experiment_id == parent.info.experiment_id


def test_evaluate_prints_the_table_again(finished, capsys):
    before = (finished.folder / "cases.csv").read_bytes()
    assert main(["evaluate", f"{finished.folder}/"]) == 0
    said = capsys.readouterr().out
    assert all(part in said for part in ("out of fold", "fold 2: ", "cases.csv"))
    assert (finished.folder / "cases.csv").read_bytes() == before
    assert repr(evaluate(finished).rows) == repr(evaluate(finished.folder).rows)  # undefined values are not equal


def test_changed_recipe_folds_or_data_are_found(finished, tmp_path):
    with pytest.raises(InputError, match="keeps its recipe and folds"):
        cross_validate(resume=finished, folds=3)
    with pytest.raises(InputError, match="keeps its recipe and folds"):
        cross_validate(recipe(finished.recipe.dims, steps=6), 2, resume=finished)
    with pytest.raises(InputError, match=r"resume it with cphloc\.cross_validate"):
        train(resume=finished)
    log = (finished.folder / "tracking.jsonl").read_bytes()
    assert cross_validate(recipe(finished.recipe.dims), 2, resume=finished).metrics == finished.metrics
    assert (finished.folder / "tracking.jsonl").read_bytes() == log, "nothing is logged twice"
    mask = open_undivided(finished.recipe.data, finished.recipe.dims).cases("val")[0].annotation.mask
    before = mask.read_bytes()
    other = open_undivided(finished.recipe.data, finished.recipe.dims).cases("val")[1].annotation.mask
    mask.write_bytes(other.read_bytes())
    try:
        for act in (lambda: cross_validate(resume=finished), lambda: evaluate(finished)):
            with pytest.raises(DataError, match="1 val cases have changed: phantom_val_0000"):
                act()
    finally:
        mask.write_bytes(before)
    edited = yaml.safe_load((finished.folder / "recipe.yaml").read_text())
    edited["train"]["steps"] = 9
    file, kept = finished.folder / "recipe.yaml", (finished.folder / "recipe.yaml").read_text()
    file.write_text(yaml.safe_dump(edited))
    try:
        with pytest.raises(InputError, match="the recipe was edited after the training"):
            evaluate(Run.open(finished.folder))
    finally:
        file.write_text(kept)


def test_a_network_that_has_seen_a_held_out_case_predicts_nothing(finished):
    found = OutOfFold(finished)
    seen = finished.fold_folders[0] / "data.json"
    kept, plain = seen.read_text(), json.loads(seen.read_text())
    case = found.held_out(1)[0]
    plain["cases"]["train"]["planted"] = plain["cases"]["val"][case.id]
    seen.write_text(json.dumps(plain))
    try:
        with pytest.raises(DataError, match="cannot predict the cases that fold 1 holds out"):
            predict_held_out(found, 1)
    finally:
        seen.write_text(kept)


def test_groups_and_a_page_of_the_worst_cases_are_out_of_fold_too(finished, tmp_path):
    page = tmp_path / "page.html"
    facts = evaluate(finished, by=["size"], report=page).facts
    assert sum(group["cases"] for group in facts["by"]["size"].values()) == len(facts["cases"])
    text = page.read_text()
    assert text.count("data:image/png") == min(10, len(facts["cases"]))
    assert "out of fold split" in text
    with pytest.raises(InputError, match="no column 'site'"):
        evaluate(finished, by=["site"])
    for elsewhere in ({"root": "other"}, {"out": "other"}):
        with pytest.raises(InputError, match=f"omit --{next(iter(elsewhere))}"):
            evaluate(finished, **elsewhere)


def test_one_fold_alone_is_that_of_the_cross_validation(finished):
    alone = train(recipe(finished.recipe.dims), fold="2/2")
    ours, theirs = (checkpoint.load(folder / checkpoint.BEST)[0] for folder in (alone.folder, finished.fold_folders[1]))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


@pytest.mark.slow
def test_killed_in_a_fold_and_resumed_the_numbers_are_the_same(at_work):
    whole = cross_validate(recipe(2, steps=40), 2)
    Path("r.yaml").write_text(yaml.safe_dump(recipe(2, steps=40)))
    process = subprocess.Popen(
        [sys.executable, "-m", "cphloc.cli", "train", "r.yaml", "--cross-validate", "2"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300

    def begun() -> list[Path]:
        found = (path.parent.parent for path in Path("runs").glob("phantom2/*/fold-2/last.safetensors"))
        return [folder for folder in found if folder != whole.folder]

    while not begun() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder,) = begun()
    assert not (folder / "metrics.json").is_file()
    assert main(["train", "--resume", f"{folder}/"]) == 0
    parts = Run.open(folder)
    assert {k: v for k, v in parts.metrics.items() if k.startswith("out")} == {
        k: v for k, v in whole.metrics.items() if k.startswith("out")
    }
    assert table(parts) == table(whole)
    first, second = (OutOfFold(run) for run in (whole, parts))
    for fold, case in first.cases:
        one, two = (StoredPrediction.load(found.path(fold, case)) for found in (first, second))
        assert np.array_equal(one.maps, two.maps)


@pytest.mark.slow
def test_two_processes_make_the_folds_and_predictions_of_one(at_work):
    (at_work / "r.yaml").write_text(yaml.safe_dump(recipe(2)))
    command = [sys.executable, "-m", "cphloc.cli", "train", "r.yaml", "--cross-validate", "2", "--json"]
    made = []
    for shared in ([], ["--devices", "2"]):
        done = subprocess.run([*command, *shared], check=False, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        made.append(Run.open(json.loads(done.stdout)["folder"]))
    one, two = made
    assert [row["case"] for row in table(one)] == [row["case"] for row in table(two)]
    for name, value in one.metrics.items():
        assert two.metrics[name] == pytest.approx(value, abs=1e-3), name
    for first, second in zip(one.fold_folders, two.fold_folders, strict=True):
        weights = [checkpoint.load(folder / checkpoint.BEST)[0] for folder in (first, second)]
        assert all(torch.allclose(weights[0][key], weights[1][key], atol=1e-4) for key in weights[0])


def test_it_is_public():
    assert cphloc.cross_validate is cross_validate
    assert callable(case_prediction)
