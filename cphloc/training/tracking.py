"""MLflow: every event of a run goes to a file first and to the tracking server when it can be reached.

``tracking.jsonl`` in the run's folder is the complete record; ``tracking.json`` says how much of it the server has.
So a server that is down, slow or read-only costs a training nothing but a few seconds, and `push` delivers the rest
later. This is the only module that imports mlflow, and only inside functions.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.errors import CphlocError, NotFoundError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ZOO_EXPERIMENT = "cphloc-zoo"
EVENTS, STATE = "tracking.jsonl", "tracking.json"

_PUSH_EVERY_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 600.0
_METRICS_AT_ONCE, _PARAMS_AT_ONCE, _LONGEST_PARAM = 1000, 100, 6000
_REFUSED = re.compile(r"[^\w\-. :/]")
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}

_log = logging.getLogger(__name__)


class Tracker:
    """Records a run and passes it on to MLflow now and then.

    Args:
        folder: the run's folder; an existing record is continued.
        experiment: MLflow experiment.
        name: name of the MLflow run.
    """

    def __init__(self, folder: Path, experiment: str, name: str) -> None:
        self.folder = folder
        self._pushed_at = -float("inf")
        self._pause = _PUSH_EVERY_SECONDS
        if not (folder / STATE).exists():
            state = {"uri": tracking_uri(), "experiment": experiment, "name": name, "run_id": None, "sent": 0}
            _write_state(folder, state)

    def params(self, values: Mapping[str, Any]) -> None:
        """Record settings; nested mappings become dotted names."""
        self._record({"event": "params", "values": {key: str(value) for key, value in flat(values).items()}})

    def tags(self, values: Mapping[str, str]) -> None:
        """Record facts about the run."""
        self._record({"event": "tags", "values": dict(values)})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers measured at ``step``; pushes when it is time."""
        stamp = int(time.time() * 1000)
        self._record({"event": "metrics", "step": step, "time_ms": stamp, "values": dict(values)})
        if time.monotonic() - self._pushed_at >= self._pause:
            self.push()

    def artifact(self, path: Path, to: str = "") -> None:
        """Record a file of the run's folder; it is read when it is pushed."""
        self._record({"event": "artifact", "path": str(path.relative_to(self.folder)), "to": to})

    def end(self, status: str = "FINISHED") -> None:
        """Record how the run ended (``FINISHED``, ``FAILED`` or ``KILLED``) and push what is left."""
        self._record({"event": "end", "status": status, "time_ms": int(time.time() * 1000)})
        self.push()

    def push(self) -> None:
        """Push what is new; after a failure the next try waits twice as long."""
        try:
            push(self.folder)
            self._pause = _PUSH_EVERY_SECONDS
        except CphlocError as error:
            if self._pause == _PUSH_EVERY_SECONDS:
                _log.warning("%s", error)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        self._pushed_at = time.monotonic()

    def _record(self, event: Mapping[str, Any]) -> None:
        with (self.folder / EVENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def push(folder: Path) -> int:
    """Send the recorded events that MLflow does not have yet.

    Returns:
        how many were sent.

    Raises:
        NotFoundError: the folder holds no record.
        CphlocError: the tracking server cannot be reached or refuses; everything stays in the folder.
    """
    if not (folder / STATE).is_file():
        msg = f"{folder}: no {STATE} here; give the folder of a run"
        raise NotFoundError(msg)
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    waiting = events(folder)[state["sent"] :]
    if not waiting:
        return 0
    try:
        client = _client(state["uri"])
        if state["run_id"] is None:
            state["run_id"] = _new_run(client, state["uri"], state["experiment"], state["name"])
            _write_state(folder, state)
        _send(client, state["run_id"], folder, waiting)
    except Exception as error:  # whatever a server, a driver or a network can raise must not end a training
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        msg = (
            f"MLflow at {state['uri']} is out of reach ({reason}); the run is kept in {folder / EVENTS}, push it later"
        )
        raise CphlocError(msg) from error
    _write_state(folder, state | {"sent": state["sent"] + len(waiting)})
    return len(waiting)


def events(folder: Path) -> list[dict[str, Any]]:
    """Everything recorded in a run's folder, in order; a line cut short by a crash is left out."""
    try:
        lines = (folder / EVENTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("}")]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Each recorded metric as ``(step, value)``, rising; of values repeated by a resumed run the later counts."""
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        if event["event"] == "metrics":
            for name, value in event["values"].items():
                found.setdefault(name, {})[event["step"]] = value
    return {name: sorted(values.items()) for name, values in found.items()}


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, or an sqlite file in the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted names; a list of blocks counts its entries.

    >>> flat({"train": {"steps": 5}, "augment": [{"type": "Flip"}], "patch": [8, 8]})
    {'train.steps': 5, 'augment.0.type': 'Flip', 'patch': [8, 8]}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list | tuple) and any(isinstance(entry, Mapping) for entry in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _client(uri: str) -> MlflowClient:
    for name, value in {**_QUIET, **_IMPATIENT}.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return MlflowClient(uri)


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Id of an experiment, created when new; a local store keeps the artifacts beside its database."""
    known = client.get_experiment_by_name(name)
    if known is not None:
        return known.experiment_id
    beside = Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts"
    return client.create_experiment(name, artifact_location=beside.as_uri() if uri.startswith("sqlite:") else None)


def _new_run(client: MlflowClient, uri: str, experiment: str, name: str) -> str:
    return client.create_run(_experiment(client, uri, experiment), run_name=name).info.run_id


def _send(client: MlflowClient, run_id: str, folder: Path, waiting: Iterable[Mapping[str, Any]]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    metrics, params, tags = [], [], []
    artifacts, end = {}, None
    for event in waiting:
        match event["event"]:
            case "metrics":
                when = event["time_ms"], event["step"]
                metrics += [Metric(_REFUSED.sub("_", key), value, *when) for key, value in event["values"].items()]
            case "params":
                params += [Param(_REFUSED.sub("_", key), _short(value)) for key, value in event["values"].items()]
            case "tags":
                tags += [RunTag(key, value) for key, value in event["values"].items()]
            case "artifact":
                artifacts[event["path"]] = event["to"]
            case "end":
                end = event
    for start in range(0, len(params), _PARAMS_AT_ONCE):
        client.log_batch(run_id, params=params[start : start + _PARAMS_AT_ONCE])
    client.log_batch(run_id, tags=tags)
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_AT_ONCE])
    for path, to in artifacts.items():
        client.log_artifact(run_id, str(folder / path), to or None)
    client.update_run(run_id, "RUNNING") if end is None else client.set_terminated(
        run_id, end["status"], end_time=end["time_ms"]
    )


def _short(value: str) -> str:
    """MLflow cuts long values without a word; this one says where the whole value stands."""
    whole = "... (whole in recipe.yaml)"
    return value if len(value) <= _LONGEST_PARAM else value[: _LONGEST_PARAM - len(whole)] + whole


def _write_state(folder: Path, state: Mapping[str, Any]) -> None:
    draft = folder / (STATE + ".part")
    draft.write_text(json.dumps(state, indent=2), encoding="utf-8")
    os.replace(draft, folder / STATE)
