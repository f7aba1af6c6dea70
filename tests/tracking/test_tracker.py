"""What reaches MLflow, and what happens when it cannot be reached."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from cphloc.cli import main
from cphloc.errors import CphlocError, NotFoundError
from cphloc.recipe.recipe import load
from cphloc.tracking import server
from cphloc.tracking.record import EVENTS, curves, locked, read_state
from cphloc.tracking.server import reason_of
from cphloc.tracking.sqlite import sqlite_file
from cphloc.tracking.system import _monitors
from cphloc.tracking.tracker import STATE, Tracker, push, tracking_uri


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
    assert run.data.params["train.freeze_x2A_"] == "x"
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


def test_a_full_disk_keeps_metrics_in_memory_until_there_is_room(store, tmp_path, monkeypatch, caplog):
    tracker = Tracker(tmp_path, "cphloc/full", "a-run")

    def full(path, content):
        raise CphlocError(f"{path}: cannot be written (No space left on device); free space")

    with monkeypatch.context() as patch:
        patch.setattr("cphloc.files.append", full)
        for step in (1, 2):
            tracker.metrics({"train/loss": 1 / step}, step)
        with pytest.raises(CphlocError, match="No space left on device"):
            tracker.end()
    assert caplog.text.count("tracking.jsonl: cannot be written (No space left on device)") == 1
    assert "the training goes on" in caplog.text
    tracker.metrics({"train/loss": 0.25}, 3)
    assert curves(tmp_path)["train/loss"] == [(1, 1.0), (2, 0.5), (3, 0.25)]


def test_a_read_only_store_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    (tmp_path / "db").write_text("this is no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'db'}")
    record(tmp_path, "cphloc/refused")
    assert "the run is kept" in caplog.text
    assert (tmp_path / "db").read_text() == "this is no database"


@contextmanager
def silent_server():
    """A server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def locked_database(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield f"sqlite:///{path}"
        other.rollback()


@pytest.mark.parametrize("kind", ["silent", "locked"])
def test_a_server_that_does_not_answer_holds_a_training_for_two_seconds_at_most(tmp_path, monkeypatch, caplog, kind):
    import mlflow.tracking  # noqa: F401  (the import takes longer, once)

    with silent_server() if kind == "silent" else locked_database(tmp_path / "locked.db") as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setattr("cphloc.tracking.tracker._PUSH_EVERY_SECONDS", 0.0)
        tracker = Tracker(tmp_path, "cphloc/slow", "a-run")
        took = []
        for step in range(3):
            started = time.monotonic()
            tracker.metrics({"train/loss": 1.0}, step)
            took.append(time.monotonic() - started)
        started = time.monotonic()
        tracker.end()
        took.append(time.monotonic() - started)
    assert max(took) < 2.5
    assert f"cphloc push {tmp_path}" in caplog.text
    assert len((tmp_path / EVENTS).read_text().splitlines()) == 4


def test_what_was_deleted_in_the_ui_is_restored(store, tmp_path, caplog):
    tracker = record(tmp_path, "cphloc/deleted")
    client, run_id = run_of(tmp_path)
    experiment = client.get_run(run_id).info.experiment_id
    client.delete_run(run_id)
    tracker.metrics({"train/loss": 0.1}, 3)
    tracker.push()
    assert len(client.get_metric_history(run_id, "train/loss")) == 3
    client.delete_experiment(experiment)
    (other := tmp_path / "other").mkdir()
    record(other, "cphloc/deleted")
    assert run_of(other)[1]
    assert [client.get_run(id).info.lifecycle_stage for id in (run_id, run_of(other)[1])] == ["active", "active"]
    assert "the MLflow experiment 'cphloc/deleted' was deleted; it is restored" in caplog.text


def test_a_run_whose_database_is_gone_is_sent_again_as_a_whole(tmp_path, monkeypatch, store):
    record(tmp_path, "cphloc/gone")
    state = json.loads((tmp_path / STATE).read_text())
    (tmp_path / STATE).write_text(json.dumps({**state, "run_id": "0" * 32, "sent": 3}))
    assert push(tmp_path) == len((tmp_path / EVENTS).read_text().splitlines())
    client, run_id = run_of(tmp_path)
    assert client.get_run(run_id).data.params["train.steps"] == "5"


def test_what_could_not_be_sent_is_sent_with_the_next_training(store, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    first, second = runs / "r" / "1", runs / "r" / "2"
    for folder in (first, second):
        folder.mkdir(parents=True)
    with monkeypatch.context() as down:
        down.setattr("cphloc.tracking.server.client_of", lambda uri: 1 / 0)
        record(first, "cphloc/first")
    assert json.loads((first / STATE).read_text())["sent"] == 0
    tracker = Tracker(second, "cphloc/second", "second", runs)
    tracker.metrics({"train/loss": 0.1}, 1)
    tracker.end()
    events = len((first / EVENTS).read_text().splitlines())
    deadline = time.monotonic() + 60
    while json.loads((first / STATE).read_text())["sent"] < events and time.monotonic() < deadline:
        time.sleep(0.1)
    client, run_id = run_of(first)
    assert len(client.get_metric_history(run_id, "train/loss")) == 2


def test_events_that_come_in_between_do_not_cost_the_earlier_runs(tmp_path, monkeypatch):
    sent = []

    def fake_push(folder: Path, wait_seconds: float = 1.0) -> int:
        sent.append(folder.name)
        if folder.name == "2" and sent.count("2") == 1:
            tracker.push()  # new events of this run while the earlier ones wait
        return 0

    folders = {name: tmp_path / "r" / name for name in ("1", "2", "3", "4")}
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        tracker = Tracker(folder, "cphloc/r", name, tmp_path if name == "4" else None)
    monkeypatch.setattr("cphloc.tracking.tracker.push", fake_push)
    monkeypatch.setattr("cphloc.tracking.tracker._IDLE_SECONDS", 0.1)
    tracker.push()
    deadline = time.monotonic() + 10
    while "3" not in sent and time.monotonic() < deadline:
        time.sleep(0.02)
    assert {"1", "2", "3", "4"} <= set(sent)


def test_one_process_at_a_time_sends_a_run(store, tmp_path):
    record(tmp_path, "cphloc/locked")
    push(tmp_path)
    with locked(tmp_path, 1), pytest.raises(CphlocError, match="is being sent to MLflow already"):
        push(tmp_path, wait_seconds=0.1)


def test_mlflow_is_imported_by_one_thread_at_a_time(store):
    for imports in (_monitors, lambda: server.client_of(store)):
        done = threading.Event()
        thread = threading.Thread(target=lambda work=imports, done=done: (work(), done.set()), daemon=True)
        with server.IMPORTING:
            thread.start()
            assert not done.wait(0.3)
        assert done.wait(60)


def test_a_tracker_waits_for_another_one_that_sends_the_same_run(store, tmp_path, monkeypatch):
    monkeypatch.setattr("cphloc.tracking.tracker._IDLE_SECONDS", 0.1)
    tracker = Tracker(tmp_path, "cphloc/waits", "waits")
    tracker.params({"train.lr": 0.1})
    with locked(tmp_path, 1):
        tracker.push()
        time.sleep(1.2)
        assert read_state(tmp_path)["sent"] == 0
    deadline = time.monotonic() + 60
    while not read_state(tmp_path)["sent"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert read_state(tmp_path)["sent"] == 1


@pytest.mark.parametrize("name", ["My%20Study", "50% #1? 'a' & b", "Größe 大小", "two\nlines"])
def test_a_folder_may_have_any_name(tmp_path, monkeypatch, name):
    from sqlalchemy import make_url

    folder = tmp_path / name
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert make_url(tracking_uri()).database == str(Path.cwd() / "mlflow.db")
    assert sqlite_file(tracking_uri()) == Path.cwd() / "mlflow.db"


def test_a_run_in_a_folder_with_special_characters_is_in_its_database(tmp_path, monkeypatch, store):
    """A ready database is copied, because making one takes seconds."""
    folder = tmp_path / "50%20 #1? 'a'"
    folder.mkdir()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(folder)
    shutil.copy(store.removeprefix("sqlite:///"), folder / "mlflow.db")
    record(folder, "cphloc/special")
    client, run_id = run_of(folder)
    assert len(client.get_metric_history(run_id, "train/loss")) == 2
    assert [file.path for file in client.list_artifacts(run_id)] == ["recipe.yaml"]
    assert {p.name for p in tmp_path.iterdir()} == {folder.name}
    assert (folder / "mlartifacts").is_dir()


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
    assert "or: cphloc push" in capsys.readouterr().err
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


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: file.write_text("no database" * 500), "the file is not a SQLite database"),
        (lambda file: file.mkdir(), "the database file cannot be opened"),
    ],
)
def test_the_text_of_sqlalchemy_and_sqlite_is_not_shown(tmp_path, spoil, reason):
    import sqlalchemy

    spoil(tmp_path / "own.db")
    with (
        pytest.raises(sqlalchemy.exc.DatabaseError) as caught,
        sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'own.db'}").connect() as connection,
    ):
        connection.execute(sqlalchemy.text("SELECT * FROM experiments"))
    assert "sqlite3." in str(caught.value)
    assert reason_of(caught.value) == reason


def test_no_server_and_an_unknown_reason_are_one_line_each():
    import requests

    with pytest.raises(requests.ConnectionError) as caught:
        requests.get("http://127.0.0.1:9/api", timeout=5)
    assert reason_of(caught.value) == "no server answers there"
    assert reason_of(ValueError("(builtins.ValueError) one line\n[SQL: SELECT 1]")) == "one line"


def test_the_record_of_a_stranger_sends_no_file_of_this_machine(store, tmp_path, caplog):
    (tmp_path / "secret").write_text("secret")
    (run := tmp_path / "run").mkdir()
    tracker = record(run, "cphloc/stranger")
    (run / "own.txt").write_text("own")
    (run / "link.txt").symlink_to(tmp_path / "secret")
    with (run / EVENTS).open("a") as file:
        for path in (str(tmp_path / "secret"), "../secret", "link.txt", "own.txt"):
            file.write(json.dumps({"event": "artifact", "path": path, "to": ""}) + "\n")
    tracker.push()
    push(run)
    client, run_id = run_of(run)
    names = {artifact.path for artifact in client.list_artifacts(run_id)}
    assert "own.txt" in names
    assert not names & {"secret", "link.txt"}
    assert "which lies elsewhere and is not sent" in caplog.text


def test_no_password_is_sent_to_a_server_that_the_record_of_a_run_names(store, tmp_path, monkeypatch):
    record(tmp_path, "cphloc/elsewhere")
    state = json.loads((tmp_path / STATE).read_text())
    (tmp_path / STATE).write_text(json.dumps({**state, "uri": "http://127.0.0.1:9", "run_id": None, "sent": 0}))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "Hunter2pw")
    with pytest.raises(CphlocError, match=r"would be sent to 127\.0\.0\.1") as caught:
        push(tmp_path)
    assert "Hunter2pw" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(CphlocError, match=r"no server answers there|does not answer"):
        push(tmp_path)
