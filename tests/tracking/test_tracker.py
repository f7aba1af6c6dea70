"""What reaches MLflow, and what happens when it cannot be reached."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress

import pytest

from cphloc.cli import main
from cphloc.errors import CphlocError, NotFoundError
from cphloc.recipe.recipe import load
from cphloc.tracking.record import EVENTS, curves
from cphloc.tracking.tracker import STATE, Tracker, push


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
    assert run.data.params["long"].endswith("(complete in recipe.yaml)")
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
    code = "import sys, cphloc.tracking.tracker; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_store_that_may_be_read_but_not_written_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    import sqlite3

    sqlite3.connect(tmp_path / "store.db").close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{tmp_path / 'store.db'}?mode=ro&uri=true")
    (run := tmp_path / "run").mkdir()
    record(run, "cphloc/refused")
    assert "cphloc push" in caplog.text
    assert len(curves(run)["train/loss"]) == 2


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_gets_everything_by_the_command(tmp_path, monkeypatch, capsys):
    """A remote server: reached, killed in the middle of a run, back at the end; nothing is lost or sent twice."""
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (run := tmp_path / "runs" / "remote" / "a-run").mkdir(parents=True)
    (run / "recipe.yaml").write_text(load("demo").to_yaml())
    monkeypatch.chdir(tmp_path)
    with mlflow_server(tmp_path, port):
        tracker = Tracker(run, "cphloc/remote", "a-run")
        tracker.params({"a": 1})
        tracker.metrics({"train/loss": 3.0}, 1)
    tracker.artifact(run / "recipe.yaml")
    tracker.metrics({"train/loss": 2.0}, 2)
    tracker.end()
    assert main(["push", "a-run"]) == 1
    assert "send it later: cphloc push" in capsys.readouterr().err
    with mlflow_server(tmp_path, port):
        assert main(["push", "a-run"]) == 0
        assert "3 events sent" in capsys.readouterr().out
        client, run_id = run_of(run)
        assert [(m.step, m.value) for m in client.get_metric_history(run_id, "train/loss")] == [(1, 3.0), (2, 2.0)]
        assert client.get_run(run_id).info.status == "FINISHED"
        assert [file.path for file in client.list_artifacts(run_id)] == ["recipe.yaml"]


def test_a_run_can_be_pushed_to_another_server_whole(store, tmp_path, monkeypatch):
    record(tmp_path, "cphloc/moved")
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert push(tmp_path, to=other) == len((tmp_path / EVENTS).read_text().splitlines())
    client, run_id = run_of(tmp_path)
    assert json.loads((tmp_path / STATE).read_text())["uri"] == other
    assert client.get_run(run_id).data.params["train.steps"] == "5"


def test_nothing_outside_this_machine_is_contacted(tmp_path):
    """Telemetry is off: a run is tracked in an own process in which every other connection than to a file fails."""
    code = f"""
import socket
from pathlib import Path
tried = []
def refuse(self, address, *_):
    tried.append(address)
    raise ConnectionRefusedError
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda host, *_, **__: refuse(None, host)
from cphloc.tracking.tracker import Tracker
tracker = Tracker(Path({str(tmp_path)!r}), "cphloc/quiet", "a-run")
tracker.metrics({{"a": 1.0}}, 1)
tracker.end()
import time
time.sleep(2)
assert not tried, tried
"""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'quiet.db'}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / STATE).read_text())["sent"] == 2


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def mlflow_server(folder, port):
    """A tracking server on the loopback interface, killed afterwards."""
    place = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen([*command, *place], env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.5)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
