"""The whole training of a recipe on the cases that ship with cphloc."""

from __future__ import annotations

import csv
import getpass
import hashlib
import json
import multiprocessing
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cphloc.cli import main
from cphloc.data.fingerprint import image_hashes
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.data.pipeline.seen import SeenData
from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.evaluation.evaluate import evaluate
from cphloc.recipe.recipe import load
from cphloc.tracking.run import Run
from cphloc.training import checkpoint
from cphloc.training.train import train


def held_out(tiny):
    """The test cases of the recipe."""
    made = load(tiny)
    return open_dataset(made.data, made.dims).cases("test")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, mlflow_store, tiny):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        patch.setenv("CPHLOC_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
        yield train(tiny)


def test_the_worker_processes_end_with_the_training(tiny, at_work):
    """A worker process that is left keeps the program from exiting."""
    before = set(multiprocessing.active_children())
    train({**tiny, "data": {**tiny["data"], "workers": 1}})
    assert set(multiprocessing.active_children()) <= before


def test_the_run_holds_everything_that_publishing_and_resuming_need(finished):
    there = {str(path.relative_to(finished.folder)) for path in finished.folder.rglob("*") if path.is_file()}
    assert there == {
        *(
            "recipe.yaml",
            "data.json",
            "facts.json",
            "best.safetensors",
            "last.safetensors",
            "metrics.json",
            "cases.csv",
        ),
        *("tracking.json", "tracking.jsonl"),
        *(f"pictures/{name}.png" for name in ("curves", "worst", "median", "best")),
    }
    weights, facts = checkpoint.load(finished.folder / checkpoint.BEST)
    assert facts["step"] == finished.metrics["train/best_step"]
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())


def test_the_mean_of_the_cases_is_the_metric(finished):
    with (finished.folder / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = [float(row["dice"]) for row in rows if row["dice"] not in ("", "nan")]
    assert finished.metrics["val/dice"] == pytest.approx(sum(values) / len(values))


def test_mlflow_has_settings_curves_facts_and_files(finished):
    from mlflow.tracking import MlflowClient

    state = json.loads((finished.folder / "tracking.json").read_text())
    client = MlflowClient(state["uri"])
    run = client.get_run(state["run_id"])
    assert client.get_experiment(run.info.experiment_id).name == "cphloc/tiny"
    assert run.info.status == "FINISHED"
    assert run.data.params["train.optimizer.type"] == "AdamW"
    recipe = Path(client.download_artifacts(state["run_id"], "recipe.yaml")).read_bytes()
    assert run.data.params["recipe_sha256"] == hashlib.sha256(recipe).hexdigest() == finished.recipe.sha256
    assert run.data.params["seed"] == "0"
    assert {"git_commit", "python", "device", "splits.train"} <= set(run.data.params)
    assert not any(isinstance(value, dict) for value in run.data.params.values())
    assert len(run.data.params["data_fingerprint"]) == 64
    assert run.data.params["packages.torch"].startswith(torch.__version__.split("+")[0])
    assert [m.step for m in client.get_metric_history(state["run_id"], "val/dice")] == [2, 4]
    assert "size/params_m" in run.data.metrics
    artifacts = {file.path for file in client.list_artifacts(state["run_id"])}
    assert {"recipe.yaml", "facts.json", "metrics.json", "cases.csv", "pictures"} <= artifacts
    begun = datetime.strptime(finished.id, "%Y%m%d-%H%M%S-%f")
    assert run.info.run_name == f"tiny {begun:%Y-%m-%d %H:%M:%S}"
    tags = {"mlflow.user": getpass.getuser(), "cphloc.recipe": "tiny", "cphloc.run": finished.id}
    assert tags.items() <= run.data.tags.items()
    assert run.data.tags["mlflow.source.name"]
    [data] = [one.dataset for one in run.inputs.dataset_inputs]
    assert (data.name, data.digest) == ("hippocampus", run.data.params["data_fingerprint"][:36])
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 0


def test_the_same_evaluation_twice_gives_the_same_numbers_and_is_kept(finished):
    first, second = evaluate(finished), evaluate(finished.id)
    assert first.rows == second.rows
    assert {k: v for k, v in first.facts.items() if k != "speed"} == {
        k: v for k, v in second.facts.items() if k != "speed"
    }
    files = {f"evaluation-test.{suffix}" for suffix in ("json", "csv")}
    files |= {f"pictures/test-{place}.png" for place in ("worst", "median", "best")}
    assert all((finished.folder / file).is_file() for file in files)
    state = json.loads((finished.folder / "tracking.json").read_text())
    from mlflow.tracking import MlflowClient

    client = MlflowClient(state["uri"])
    assert {"pictures/test-worst.png"} <= {f.path for f in client.list_artifacts(state["run_id"], "pictures")}
    logged = client.get_run(state["run_id"]).data.metrics
    dice = first.facts["metrics"]["dice"]
    assert [logged[f"test/dice{end}"] for end in ("", "_ci_low", "_ci_high")] == [
        dice[k] for k in ("value", "low", "high")
    ]
    assert {"speed/ms_per_case", "size/peak_ram_mb"} <= set(logged)


def test_an_evaluation_of_the_shipped_entry_is_written_where_it_is_told(finished, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", "unet3d-hippocampus", "--root", "sample", "--split", "val"]
    assert main([*command, "--out", str(out)]) == 0
    assert "pictures beside it" in capsys.readouterr().out
    assert json.loads((out / "evaluation-val.json").read_text())["metrics"]["dice"]["value"] > 0.7
    assert {path.name for path in (out / "pictures").iterdir()} == {f"val-{p}.png" for p in ("worst", "median", "best")}
    assert main(["evaluate", str(finished.folder), "--out", str(out)]) == 2
    assert "omit --out" in capsys.readouterr().err


def test_a_run_opens_by_id_and_by_folder(finished):
    assert Run.open(finished.id).metrics == finished.metrics == Run.open(finished.folder).metrics
    with pytest.raises(NotFoundError, match="did you mean"):
        Run.open(finished.id[:-1])


def test_a_finished_run_resumes_to_itself_and_refuses_another_recipe(finished):
    assert train(resume=finished.id).metrics == finished.metrics
    with pytest.raises(InputError, match="keeps its own recipe"):
        train(resume=finished.id, overrides={"train.steps": 9})
    with pytest.raises(InputError, match="give a recipe to train"):
        train()


def test_a_run_that_was_killed_before_its_end_was_logged_resumes_to_its_end(finished):
    log = finished.folder / "tracking.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    (finished.folder / "cases.csv").unlink()
    (finished.folder / "metrics.json").write_text('{"val/di')
    log.write_text("".join(line for line in lines if '"event": "end"' not in line))
    resumed = train(resume=finished.id)
    assert '"status": "FINISHED"' in log.read_text()
    assert (finished.folder / "cases.csv").is_file()
    assert resumed.metrics["val/dice"] == finished.metrics["val/dice"]


def test_the_wait_for_mlflow_takes_nothing_off_the_budget_of_minutes(tiny, at_work, monkeypatch):
    clock, spent = [1000.0], []

    def slow(tracker):
        clock[0] += 100

    def fit(*args, seconds, **kwargs):
        spent.append(seconds)
        raise InputError

    monkeypatch.setattr("cphloc.training.train.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr("cphloc.tracking.tracker.Tracker.push", slow)
    monkeypatch.setattr("cphloc.training.train.fit", fit)
    with pytest.raises(InputError):
        train(tiny)
    assert clock[0] > 1000
    assert spent == [0]


def test_test_cases_that_the_first_weights_were_trained_on_are_not_evaluated(finished, tiny, tmp_path, capsys):
    before = shutil.copytree(finished.folder, tmp_path / "before")
    images = [image for case in held_out(tiny) for image in image_hashes(case)]
    seen = SeenData.read(before)
    assert seen is not None
    replace(seen, inherited={"train": images[:1]}).write(before)
    tuned = train(tiny, {"from": f"{before}/", "train.steps": 2})
    assert "test cases (or their patients) were in train" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"1 of .* test cases .* a model that its weights come from"):
        evaluate(tuned, "test")
    with pytest.raises(DataError, match="start from a model that has not seen the cases of the folds"):
        train(tiny, {"from": f"{finished.folder}/"}, fold="1/2")


def test_an_evaluation_of_other_data_leaves_that_of_the_run_as_it_is(finished, tiny, tmp_path):
    own = evaluate(finished, "test")
    folder, rows = tmp_path / "elsewhere", ["image,mask"]
    folder.mkdir()
    for case in held_out(tiny)[:1]:
        for kind, file in zip(("image", "mask"), case.files, strict=True):
            shutil.copy(file, folder / f"{case.id}-{kind}.nii.gz")
        rows.append(f"{case.id}-image.nii.gz,{case.id}-mask.nii.gz")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    before = (finished.folder / "evaluation-test.json").read_bytes()
    other = evaluate(finished, root=str(folder), out=tmp_path / "out")
    assert len(other.rows) == 1
    assert other.folder == tmp_path / "out"
    assert (tmp_path / "out" / "evaluation-test.csv").is_file()
    assert evaluate(finished, root=str(folder)).folder is None
    assert (finished.folder / "evaluation-test.json").read_bytes() == before
    assert own.folder == finished.folder
    with pytest.raises(InputError, match="omit --out"):
        evaluate(finished, out=tmp_path / "out")


def test_a_budget_of_minutes_ends_in_time_with_a_usable_run(tiny, at_work):
    budget = {"train.minutes": 0.2, "train.steps": 100_000, "train.validate_every": 100_000}
    runs = (train(tiny, budget) for _ in range(3))  # a machine that stalls for a while may fail twice, not thrice
    run = next((run for run in runs if run.metrics["train/seconds"] < 14), None)
    assert run is not None, "twelve seconds, preparation and validations included"
    assert run.metrics["train/seconds"] > 5
    assert run.metrics["train/steps"] < 100_000
    assert evaluate(run, "val").facts["metrics"]["dice"]["n"] > 0
    assert train(resume=run).metrics == run.metrics
