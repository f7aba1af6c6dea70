"""The connection to an MLflow server or database: open it, find experiments and runs, send events.

Only this package and `cphloc.zoo.served` import mlflow, and only inside functions.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cphloc import paths
from cphloc.config import jsonio
from cphloc.errors import CphlocError, MissingExtraError, needs, without_secrets
from cphloc.tracking import record
from cphloc.tracking.record import Bundle
from cphloc.tracking.sqlite import SQLITE, alone_if_new, sqlite_file, sqlite_uri

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

ENVIRONMENT = {
    **{"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"},
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    **{"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"},
}
"""Defaults of environment variables of MLflow: nothing on the terminal, no telemetry, short timeouts."""

METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # limits of a request to MLflow's REST API
DIGEST_LENGTH = 36
"""Most characters of the digest of a data set that MLflow's database holds."""
IMPORTING = threading.RLock()
"""Held while mlflow is imported: threads that import it at the same time find it half initialized."""
_LOCK_SECONDS = 1.0

_log = logging.getLogger(__name__)


def tracking_uri() -> str:
    """Return the URI of the MLflow server: ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(Path.cwd() / "mlflow.db")


def with_secrets(stored: str, given: str | None) -> str:
    """Return the URI that was stored without its password, from where it was given: a call, or the environment."""
    return next((uri for uri in (given, tracking_uri()) if uri is not None and without_secrets(uri) == stored), stored)


_CREDENTIALS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def check_recipient(uri: str) -> None:
    """Check that MLflow would not send this user's password or token to a server that the record of a run names.

    Raises:
        CphlocError: the server is another one than that of ``MLFLOW_TRACKING_URI``, to which the password belongs.
    """
    host, own = (urlsplit(one).hostname for one in (uri, tracking_uri()))
    if host is not None and host != own and any(os.environ.get(name) for name in _CREDENTIALS):
        msg = f"it is not the server of MLFLOW_TRACKING_URI, and your password for MLflow would be sent to {host}"
        raise CphlocError(msg)


@contextmanager
def reaching(uri: str, otherwise: str) -> Iterator[None]:
    """Convert any error of MLflow, a database or the network to a `CphlocError` with a message of one line.

    Args:
        uri: URI of the server.
        otherwise: what the user can do, for the message.
    """
    try:
        with needs("logging to MLflow"):
            yield
    except MissingExtraError:
        raise
    except Exception as error:
        msg = f"MLflow at {without_secrets(uri)} cannot be reached ({reason_of(error)}); {otherwise}"
        raise CphlocError(msg) from error


_REASONS = {
    "database is locked": "another program has locked the database",
    "readonly database": "the database file is read-only",
    "disk is full": "the disk is full",
    "disk I/O error": "the disk cannot be read or written",
    "unable to open database": "the database file cannot be opened",
    "not a database": "the file is not a SQLite database",
    "malformed": "the database file is damaged",
    "no such table": "the database is not one of MLflow",
    "no such column": "the database is of another version of MLflow",
    "Can't locate revision": "the database is of a newer version of MLflow",
    "Name or service not known": "there is no such server",
    "Failed to resolve": "there is no such server",
    "Connection refused": "no server answers there",
    "Max retries exceeded": "the server does not answer",
    "timed out": "the server does not answer",
}
"""What SQLite, SQLAlchemy, Alembic and urllib3 write -> what it means."""


def reason_of(error: Exception) -> str:
    """Return in plain words why MLflow or its database failed, as one short line without secrets.

    >>> reason_of(OSError("(sqlite3.OperationalError) database is locked [SQL: BEGIN]"))
    'another program has locked the database'
    """
    text = without_secrets(str(error)).strip() or type(error).__name__
    known = (meaning for words, meaning in _REASONS.items() if words in text)
    return next(known, re.sub(r"^(\([\w.]+\)\s*)+", "", text).splitlines()[0][:200])


def set_environment() -> None:
    """Set the defaults of `ENVIRONMENT`, which MLflow reads when it is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def client_of(uri: str) -> MlflowClient:
    """Open a server or database.

    Raises:
        CphlocError: ``CPHLOC_OFFLINE`` forbids it.
        OSError: the database cannot be written or is locked.
    """
    if paths.offline() and not uri.startswith(("sqlite:", "file:", "/", ".")):
        msg = "CPHLOC_OFFLINE forbids it"
        raise CphlocError(msg)
    set_environment()
    file = sqlite_file(uri)
    if file is not None:
        _check_database(file)
    with IMPORTING, warnings.catch_warnings(action="ignore"):  # about its own plug-ins, without docstrings (python -OO)
        from mlflow.tracking import MlflowClient

    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings hold the address, which may hold a token
    made = Path(uri.removeprefix(SQLITE)).parent
    stray = file is not None and not made.exists()  # MLflow makes the folder of the URI as it is written, with %25
    with nullcontext() if file is None else alone_if_new(file):
        client = MlflowClient(uri)
    if stray:
        with suppress(OSError):
            made.rmdir()
    return client


def _check_database(file: Path) -> None:
    """Raise `OSError` where a SQLite database cannot be written; MLflow would try again for minutes."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    try:
        with closing(sqlite3.connect(file, timeout=_LOCK_SECONDS)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except sqlite3.OperationalError as error:
        raise OSError(reason_of(error)) from None
    except sqlite3.DatabaseError:
        msg = "the file is not a SQLite database"
        raise OSError(msg) from None


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """Return the id of an experiment, which is created if it is new and restored if it was deleted.

    With a local database, artifacts are stored in the same folder.
    """
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is not None:
        restore_experiment(client, known.experiment_id)
        return known.experiment_id
    file = sqlite_file(uri)
    beside = None if file is None else (file.resolve().parent / "mlartifacts").as_uri()
    tags = {"mlflow.experimentKind": "custom_model_development"}  # else the UI shows it as generative AI
    try:
        return client.create_experiment(name, beside, tags)
    except MlflowException:
        made = client.get_experiment_by_name(name)  # by another process meanwhile
        if made is None:
            raise
        return made.experiment_id


def restore_experiment(client: MlflowClient, id: str) -> None:
    """Restore an experiment that was deleted in the UI, without which MLflow accepts nothing for it."""
    known = client.get_experiment(id)
    if known.lifecycle_stage == "deleted":
        client.restore_experiment(id)
        _log.warning("the MLflow experiment '%s' was deleted; it is restored for a new run", known.name)


def usable_run(client: MlflowClient, id: str) -> Run | None:
    """Return a run, which is restored if it or its experiment was deleted; ``None`` if MLflow has no such run."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    restore_experiment(client, run.info.experiment_id)
    if client.get_run(id).info.lifecycle_stage == "deleted":
        client.restore_run(id)
        _log.warning("the MLflow run '%s' was deleted; it is restored", run.info.run_name)
    return run


def steps_of(client: MlflowClient, run_id: str, bundle: Bundle) -> set[tuple[str, int]]:
    """Return which of the metrics of a bundle a run has at which step, as ``(name, step)``."""
    names = {name for name, _ in bundle.steps}
    return {(n, m.step) for n in names for m in client.get_metric_history(run_id, record.key_of(n)) if m.step}


def send(client: MlflowClient, run_id: str, folder: Path, bundle: Bundle) -> None:
    """Send events to a run.

    Args:
        client: see `client_of`.
        run_id: id of the MLflow run.
        folder: folder of the run on disk, with its artifacts; those that do not exist any more are left out.
        bundle: the events.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    params = [Param(record.key_of(key), record.shortened(value)) for key, value in bundle.params.items()]
    metrics = [Metric(record.key_of(key), value, time_ms, step) for key, value, time_ms, step in bundle.metrics]
    for start in range(0, len(params), PARAMS_AT_ONCE):
        client.log_batch(run_id, params=params[start : start + PARAMS_AT_ONCE])
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in bundle.tags.items()])
    for start in range(0, len(metrics), METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_AT_ONCE])
    for name, digest, context in bundle.data:
        data = Dataset(name, digest[:DIGEST_LENGTH], "local", jsonio.dumps({"uri": name}))
        client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", context)])])
    for path, to in bundle.artifacts.items():
        file = (folder / path).resolve()
        if not file.is_relative_to(folder.resolve()):  # a run of a stranger could name any file of this machine
            _log.warning("%s: the record names the file %s, which lies elsewhere and is not sent", folder, path)
        elif file.is_file():
            client.log_artifact(run_id, str(folder / path), to or None)
    client.update_run(run_id, "RUNNING")
    if bundle.end is not None:
        client.set_terminated(run_id, bundle.end["status"], end_time=bundle.end["time_ms"])
