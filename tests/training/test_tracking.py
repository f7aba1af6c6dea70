"""What reaches MLflow, and what happens when it cannot be reached."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cphloc.errors import CphlocError, NotFoundError
from cphloc.training.events import EVENTS, curves
from cphloc.training.tracking import STATE, Tracker, push


@pytest.fixture
def store(mlflow_store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    return mlflow_store


def client_of(uri):
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri)


def run_of(folder):
    state = json.loads((folder / STATE).read_text())
    return client_of(state["uri"]), state["run_id"]


def record(folder, experiment):
    (folder / "recipe.yaml").write_text("task: segmentation\n")
    tracker = Tracker(folder, experiment, "a-run")
    tracker.params({"train": {"steps": 5, "freeze*": "x"}, "long": "y" * 7000})
    tracker.tags({"cphloc.run": "a-run"})
    tracker.artifact(folder / "recipe.yaml")
    for step in (1, 2):
        tracker.metrics({"train/loss": 1 / step, "val/dice per class/left": 0.5}, step)
    tracker.end()
    return tracker


def test_a_run_arrives_whole(store, tmp_path):
    record(tmp_path, "cphloc/whole")
    client, run_id = run_of(tmp_path)
    run = client.get_run(run_id)
    assert client.get_experiment(run.info.experiment_id).name == "cphloc/whole"
    assert (run.info.run_name, run.info.status) == ("a-run", "FINISHED")
    assert run.data.params["train.steps"] == "5"
    assert run.data.params["train.freeze_"] == "x"
    assert run.data.params["long"].endswith("(whole in recipe.yaml)")
    assert len(run.data.params["long"]) <= 6000
    assert run.data.tags["cphloc.run"] == "a-run"
    history = client.get_metric_history(run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 0.5)]
    assert [f.path for f in client.list_artifacts(run_id)] == ["recipe.yaml"]


def test_nothing_is_sent_twice(store, tmp_path):
    tracker = record(tmp_path, "cphloc/once")
    assert push(tmp_path) == 0
    tracker.metrics({"train/loss": 0.1}, 3)
    client, run_id = run_of(tmp_path)
    push(tmp_path)
    assert [m.step for m in client.get_metric_history(run_id, "train/loss")] == [1, 2, 3]


def test_a_server_that_is_down_costs_nothing_and_gets_everything_later(store, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    record(tmp_path, "cphloc/late")
    assert "http://127.0.0.1:9" in caplog.text
    with pytest.raises(CphlocError, match="the run is kept"):
        push(tmp_path)
    state = json.loads((tmp_path / STATE).read_text())
    (tmp_path / STATE).write_text(json.dumps({**state, "uri": store}))
    assert push(tmp_path) == len((tmp_path / EVENTS).read_text().splitlines())
    client, run_id = run_of(tmp_path)
    assert client.get_run(run_id).info.status == "FINISHED"
    assert len(client.get_metric_history(run_id, "train/loss")) == 2


def test_a_read_only_store_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    (tmp_path / "db").write_text("this is no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'db'}")
    record(tmp_path, "cphloc/refused")
    assert "the run is kept" in caplog.text
    assert (tmp_path / "db").read_text() == "this is no database"


def test_curves_come_from_the_record_and_a_repeated_step_counts_once(tmp_path, monkeypatch):
    monkeypatch.setattr(Tracker, "push", lambda self: None)
    tracker = Tracker(tmp_path, "x", "y")
    for step, value in ((10, 3.0), (20, 2.0), (10, 1.0)):
        tracker.metrics({"val/dice": value}, step)
    with (tmp_path / EVENTS).open("a") as file:
        file.write('{"event": "metrics", "st')
    assert curves(tmp_path) == {"val/dice": [(10, 1.0), (20, 2.0)]}


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match="give the folder of a run"):
        push(tmp_path)


def test_importing_tracking_does_not_import_mlflow():
    code = "import sys, cphloc.training.tracking; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
