"""Log runs and published entries to MLflow.

Every event of a run is first written to a file in its folder and then sent to the MLflow server. If the server cannot
be reached, the training continues, and `push` (``cphloc push RUN``) sends the remaining events later. Only this module
imports mlflow, and only inside functions.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc import paths
from cphloc.errors import CphlocError, NotFoundError, without_secrets
from cphloc.tracking import record
from cphloc.tracking.record import EVENTS, STATE, Bundle, bundled, flat

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient


ZOO_EXPERIMENT = "cphloc-zoo"
"""Name of the MLflow experiment of published entries."""

_PUSH_EVERY_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 600.0
_METRICS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100  # limits of a request to MLflow's REST API

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    **{"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"},
}
"""Defaults of environment variables of MLflow: no telemetry, and short timeouts."""

_log = logging.getLogger(__name__)


class Tracker:
    """Logs a run to its folder and sends the log to MLflow at intervals.

    Args:
        folder: folder of the run; an existing log in it is continued.
        experiment: name of the MLflow experiment.
        name: name of the MLflow run.
    """

    def __init__(self, folder: Path, experiment: str, name: str) -> None:
        self.folder = folder
        self._pushed_at = -float("inf")
        self._pause = _PUSH_EVERY_SECONDS
        if not (folder / STATE).exists():
            to = {"uri": without_secrets(tracking_uri()), "experiment": experiment, "name": name}
            record.write_state(folder, {**to, "run_id": None, "sent": 0})

    def params(self, values: Mapping[str, Any]) -> None:
        """Log settings as MLflow parameters; nested mappings become dotted names."""
        record.append(
            self.folder,
            {"event": "params", "values": {key: without_secrets(str(value)) for key, value in flat(values).items()}},
        )

    def tags(self, values: Mapping[str, str]) -> None:
        """Log MLflow tags of the run."""
        record.append(self.folder, {"event": "tags", "values": dict(values)})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log values of metrics at a training step, and send the log if the last time was long enough ago."""
        stamp = int(time.time() * 1000)
        record.append(self.folder, {"event": "metrics", "step": step, "time_ms": stamp, "values": dict(values)})
        if time.monotonic() - self._pushed_at >= self._pause:
            self.push()

    def artifact(self, path: Path, to: str = "") -> None:
        """Log a file in the folder of the run as MLflow artifact.

        Args:
            path: the file; its content is read when the log is sent.
            to: folder of the artifact on the server; by default its root.
        """
        record.append(self.folder, {"event": "artifact", "path": str(path.relative_to(self.folder)), "to": to})

    def end(self, status: str = "FINISHED") -> None:
        """Log the end of the run with a status (``FINISHED``, ``FAILED`` or ``KILLED``), and send the log."""
        record.append(self.folder, {"event": "end", "status": status, "time_ms": int(time.time() * 1000)})
        self.push()

    def push(self) -> None:
        """Send new events to MLflow; each failure doubles the interval until the next attempt."""
        try:
            push(self.folder)
            self._pause = _PUSH_EVERY_SECONDS
        except CphlocError as error:
            if self._pause == _PUSH_EVERY_SECONDS:
                _log.warning("%s", error)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        self._pushed_at = time.monotonic()


def run_id(folder: Path) -> str:
    """Return the id of the MLflow run of the run in ``folder``; an empty string before anything was sent."""
    return record.read_state(folder)["run_id"] or ""


def push(folder: Path, to: str | None = None) -> int:
    """Send the logged events of a run that MLflow does not have yet.

    Args:
        folder: folder of the run.
        to: URI of another MLflow server, to which all events are sent; by default the server of earlier calls.

    Returns:
        the number of events sent.

    Raises:
        NotFoundError: the folder contains no log.
        CphlocError: the server cannot be reached or rejects the events; they stay in the folder.
    """
    if not (folder / STATE).is_file():
        msg = f"{folder}: no {STATE} here; give the folder of a run"
        raise NotFoundError(msg)
    state = record.read_state(folder)
    if to is not None and without_secrets(to) != state["uri"]:
        state |= {"uri": without_secrets(to), "run_id": None, "sent": 0}
    uri = _with_secrets(state["uri"], to)
    waiting = record.events(folder)[state["sent"] :]
    if not waiting:
        return 0
    with _reaching(uri, f"the run is kept in {folder / EVENTS}; send it later: cphloc push {folder}"):
        client = _client(uri)
        if state["run_id"] is None:
            experiment = _experiment(client, uri, state["experiment"])
            state["run_id"] = client.create_run(experiment, run_name=state["name"]).info.run_id
            record.write_state(folder, state)
        _send(client, state["run_id"], folder, bundled(waiting))
    record.write_state(folder, state | {"sent": state["sent"] + len(waiting)})
    return len(waiting)


def tracking_uri() -> str:
    """Return the URI of the MLflow server: ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def _with_secrets(stored: str, given: str | None) -> str:
    """Return the URI that was stored without its password, from where it was given: a call, or the environment."""
    return next((uri for uri in (given, tracking_uri()) if uri is not None and without_secrets(uri) == stored), stored)


@dataclass(frozen=True)
class PublishedVersion:
    """A published version of a zoo entry, as it is registered in MLflow.

    Args:
        name: name of the entry.
        version: version number, such as ``1.2.0``.
        summary: description in one line.
        params: MLflow parameters by name.
        metrics: values of metrics by name.
        folder: folder of the version, whose files become part of the registered model.
    """

    name: str
    version: str
    summary: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    folder: Path


def register_entry(version: PublishedVersion) -> str:
    """Register a published entry in MLflow: a summary run in the experiment ``cphloc-zoo``, and a model version.

    The model version contains the folder of the entry and can be served by MLflow; ``models:/name/latest`` refers to
    the newest version. An entry that is already registered is not changed.

    Returns:
        the id of the summary run.

    Raises:
        CphlocError: the server cannot be reached or rejects the entry.
    """
    uri, name = tracking_uri(), f"{version.name}@{version.version}"
    with _reaching(uri, f"register {name} later"):
        client = _client(uri)
        experiment = _experiment(client, uri, ZOO_EXPERIMENT)
        known = client.search_runs([experiment], f"tags.`cphloc.entry` = '{name}'", max_results=1)
        if known:
            return known[0].info.run_id
        run_id = client.create_run(experiment, run_name=name).info.run_id
        _log_entry(client, run_id, version)
        client.set_tag(run_id, "cphloc.entry", name)
        client.set_terminated(run_id)
    return run_id


def download_entry(spec: str) -> Path:
    """Download an entry from MLflow's model registry, unless it is in the cache.

    Args:
        spec: ``models:/name/3``, ``models:/name/latest`` or ``models:/name@alias``.

    Returns:
        the folder of the entry in the cache.

    Raises:
        NotFoundError: no such model or version.
    """
    client = _client(uri := tracking_uri())
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    parts = re.fullmatch(r"models:/([^/@]+)([/@])?(.*)", spec)
    if parts is None:
        msg = f"{spec}: not the name of a registered model; write models:/NAME/VERSION or models:/NAME@ALIAS"
        raise NotFoundError(msg)
    name, separator, wanted = parts.groups()
    try:
        model = _model_version(client, name, separator, wanted)
        folder = paths.cached("mlflow", f"{name}-{model.version}-{model.run_id}")
        if not folder.is_dir():
            with paths.atomic_folder(folder) as draft:
                download_artifacts(artifact_uri=model.source, dst_path=str(draft), tracking_uri=uri)
    except MlflowException as error:
        msg = f"{spec}: not in the model registry at {uri} ({error.message}); publish it, or set MLFLOW_TRACKING_URI"
        raise NotFoundError(msg) from error
    return next(folder.rglob("entry.yaml")).parent


def _model_version(client: MlflowClient, name: str, separator: str | None, wanted: str) -> ModelVersion:
    """Find a version of a registered model by number, by alias, or the newest."""
    if wanted not in ("", "latest"):
        by_alias = separator == "@"
        return client.get_model_version_by_alias(name, wanted) if by_alias else client.get_model_version(name, wanted)
    client.get_registered_model(name)
    return max(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))


def zoo_experiment() -> str:
    """Return the id of the MLflow experiment of published entries, which is created if it does not exist.

    Raises:
        CphlocError: the server or database cannot be opened.
    """
    uri = tracking_uri()
    with _reaching(uri, "see MLFLOW_TRACKING_URI"):
        return _experiment(_client(uri), uri, ZOO_EXPERIMENT)


@contextmanager
def _reaching(uri: str, otherwise: str) -> Iterator[None]:
    """Convert any error of MLflow, a database or the network to a `CphlocError` with a message of one line."""
    try:
        yield
    except Exception as error:
        reason = (without_secrets(str(error)).strip() or type(error).__name__).splitlines()[0][:120]
        msg = f"MLflow at {uri} cannot be reached ({reason}); {otherwise}"
        raise CphlocError(msg) from error


def _log_entry(client: MlflowClient, run_id: str, version: PublishedVersion) -> None:
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    for key, value in version.params.items():
        client.log_param(run_id, record.key_of(key), record.shortened(str(value)))
    for key, value in version.metrics.items():
        client.log_metric(run_id, record.key_of(key), value)
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        served = {"loader_module": "cphloc.zoo.served", "pip_requirements": ["cphloc"]}
        mlflow.pyfunc.save_model(model, data_path=str(version.folder), **served)
        client.log_artifacts(run_id, str(model), "model")
    with suppress(MlflowException):  # raised if the model exists already
        client.create_registered_model(version.name)
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    client.create_model_version(version.name, source, run_id, description=version.summary)


def _client(uri: str) -> MlflowClient:
    if paths.offline() and not uri.startswith(("sqlite:", "file:", "/", ".")):
        msg = "CPHLOC_OFFLINE forbids it"
        raise CphlocError(msg)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings hold the address, which may hold a token
    return MlflowClient(uri)


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Id of an experiment, created if new; with a local database, artifacts are stored in the same folder."""
    known = client.get_experiment_by_name(name)
    if known is not None:
        return known.experiment_id
    beside = (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
    tags = {"mlflow.experimentKind": "custom_model_development"}  # else the UI shows it as generative AI
    return client.create_experiment(name, beside if uri.startswith("sqlite:") else None, tags)


def _send(client: MlflowClient, run_id: str, folder: Path, bundle: Bundle) -> None:
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(record.key_of(key), record.shortened(value)) for key, value in bundle.params.items()]
    metrics = [Metric(record.key_of(key), value, time_ms, step) for key, value, time_ms, step in bundle.metrics]
    for start in range(0, len(params), _PARAMS_AT_ONCE):
        client.log_batch(run_id, params=params[start : start + _PARAMS_AT_ONCE])
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in bundle.tags.items()])
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_AT_ONCE])
    for path, to in bundle.artifacts.items():
        client.log_artifact(run_id, str(folder / path), to or None)
    client.update_run(run_id, "RUNNING")
    if bundle.end is not None:
        client.set_terminated(run_id, bundle.end["status"], end_time=bundle.end["time_ms"])
