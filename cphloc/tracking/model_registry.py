"""Published entries in MLflow: register them, and download them from its model registry."""

from __future__ import annotations

import hashlib
import re
import tempfile
import urllib.parse
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc import paths
from cphloc.download import SourceError, in_process, within
from cphloc.errors import NotFoundError
from cphloc.files import atomic_folder
from cphloc.tracking import record
from cphloc.tracking.server import client_of, experiment_id, reaching, reason_of, sqlite_file, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

ANSWER_SECONDS = 30.0
"""Seconds to wait for what a server answers about a model."""

ZOO_EXPERIMENT = "cphloc-zoo"
"""Name of the MLflow experiment of published entries."""


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
        parameters: parameters of a request to the served model, with type and default.
    """

    name: str
    version: str
    summary: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    folder: Path
    parameters: Mapping[str, tuple[type, bool | float | str | None]] = field(default_factory=dict)


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
    with reaching(uri, f"register {name} later"):
        client = client_of(uri)
        experiment = experiment_id(client, uri, ZOO_EXPERIMENT)
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
    uri = tracking_uri()
    parts = re.fullmatch(r"models:/([^/@]+)([/@])?(.*)", spec)
    if parts is None:
        msg = f"{spec}: not the name of a registered model; write models:/NAME/VERSION or models:/NAME@ALIAS"
        raise NotFoundError(msg)
    model = _find_version(uri, spec, *parts.groups())
    source = f"{uri} {parts[1]} {model.version} {model.run_id} {model.source}"  # a server could answer with '../'
    folder = paths.cached("mlflow", hashlib.sha256(source.encode()).hexdigest())
    if not folder.is_dir():
        with atomic_folder(folder) as draft:
            _download(uri, spec, str(model.source), draft)
    found = next(folder.rglob("entry.yaml"), None)
    if found is None:
        msg = f"{spec}: is a model without entry.yaml, not an entry; register one: cphloc zoo index"
        raise NotFoundError(msg)
    return found.parent


def _find_version(uri: str, spec: str, name: str, separator: str | None, wanted: str) -> ModelVersion:
    """Ask a server for a version of a model, and refuse to wait for longer than `ANSWER_SECONDS`."""
    with reaching(uri, "see MLFLOW_TRACKING_URI"):
        client = client_of(uri)
    from mlflow.exceptions import MlflowException

    try:
        return within(ANSWER_SECONDS, lambda: _model_version(client, name, separator, wanted))
    except (MlflowException, SourceError) as error:
        msg = f"{spec}: not in the model registry at {uri} ({reason_of(error)}); publish it, or set MLFLOW_TRACKING_URI"
        raise NotFoundError(msg) from error


_PROGRAM = """
from mlflow.artifacts import download_artifacts
try:
    download_artifacts(artifact_uri=given["source"], dst_path=given["to"], tracking_uri=given["uri"])
except Exception as error:
    sys.exit(" ".join(str(error).split()))
"""


def _download(uri: str, spec: str, source: str, folder: Path) -> None:
    """Download the files of a model; from a server, in a process that is ended when it sends too slowly."""
    given = {"source": source, "to": str(folder), "uri": uri}
    try:
        scheme = urllib.parse.urlsplit(source).scheme
        if scheme in ("", "file") or (scheme in ("runs", "models") and sqlite_file(uri)):
            from mlflow.artifacts import download_artifacts

            download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=uri)
        else:
            in_process(_PROGRAM, given, folder)
    except Exception as error:  # each place raises errors of its own
        msg = f"{spec}: cannot be downloaded from {uri} ({reason_of(error)}); run the command again"
        raise NotFoundError(msg) from error


def _signature(parameters: Mapping[str, tuple[type, bool | float | str | None]]) -> ModelSignature | None:
    """Signature of a served model that takes any table and these parameters."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import DataType, ParamSchema, ParamSpec

    types = {bool: DataType.boolean, float: DataType.double, str: DataType.string}
    params = [ParamSpec(name, types[kind], default) for name, (kind, default) in parameters.items()]
    return ModelSignature(params=ParamSchema(params)) if params else None


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
    with reaching(uri, "see MLFLOW_TRACKING_URI"):
        return experiment_id(client_of(uri), uri, ZOO_EXPERIMENT)


def _log_entry(client: MlflowClient, run_id: str, version: PublishedVersion) -> None:
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    for key, value in version.params.items():
        client.log_param(run_id, record.key_of(key), record.shortened(str(value)))
    for key, value in version.metrics.items():
        client.log_metric(run_id, record.key_of(key), value)
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        served: dict[str, Any] = {"loader_module": "cphloc.zoo.served", "pip_requirements": ["cphloc"]}
        served["signature"] = _signature(version.parameters)  # MLflow drops parameters that no signature lists
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*input example")  # the entry has a sample
            mlflow.pyfunc.save_model(model, data_path=str(version.folder), **served)
        client.log_artifacts(run_id, str(model), "model")
    with suppress(MlflowException):  # raised if the model exists already
        client.create_registered_model(version.name)
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    client.create_model_version(version.name, source, run_id, description=version.summary)
