"""Download published entries from MLflow's model registry."""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from cphloc import paths
from cphloc.download import SourceError, in_process, within
from cphloc.errors import NotFoundError, without_secrets
from cphloc.files import atomic_folder
from cphloc.tracking.server import client_of, reaching, reason_of, tracking_uri
from cphloc.tracking.sqlite import sqlite_file

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

ANSWER_SECONDS = 30.0
"""Seconds to wait for what a server answers about a model."""


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
        place = without_secrets(uri)
        msg = (
            f"{spec}: not in the model registry at {place} ({reason_of(error)}); publish it, or set MLFLOW_TRACKING_URI"
        )
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
        msg = f"{spec}: cannot be downloaded from {without_secrets(uri)} ({reason_of(error)}); run the command again"
        raise NotFoundError(msg) from error


def _model_version(client: MlflowClient, name: str, separator: str | None, wanted: str) -> ModelVersion:
    """Find a version of a registered model by number, by alias, or the newest."""
    if wanted not in ("", "latest"):
        by_alias = separator == "@"
        return client.get_model_version_by_alias(name, wanted) if by_alias else client.get_model_version(name, wanted)
    client.get_registered_model(name)
    versions = client.search_model_versions(f"name = '{name}'")
    if not versions:
        msg = f"models:/{name}: all its versions were deleted in MLflow; register them again: cphloc zoo index"
        raise NotFoundError(msg)
    return max(versions, key=lambda version: int(version.version))
