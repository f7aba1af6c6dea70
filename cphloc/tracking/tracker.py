"""Log runs to MLflow.

Every event of a run is first written to a file in its folder and then sent to the MLflow server by a thread. A server
that is slow, locked or cannot be reached does not hold a training; what it lacks is sent with the next training that
reaches it, or by `push` (``cphloc push RUN``).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cphloc.errors import CphlocError, NotFoundError, without_secrets
from cphloc.files import flush, is_temporary
from cphloc.tracking import record, server
from cphloc.tracking.record import EVENTS, STATE, bundled, flat
from cphloc.tracking.server import reaching, tracking_uri
from cphloc.tracking.sqlite import database_state

__all__ = ["EVENTS", "STATE", "Tracker", "push", "run_id", "tracking_uri"]

_PUSH_EVERY_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 600.0
_IDLE_SECONDS, _BUSY_SECONDS, _COMPUTING_SECONDS = 1.5, 60.0, 0.02
_OTHER_SENDER_SECONDS, _REWIND_SECONDS = 600.0, 10.0

_log = logging.getLogger(__name__)


class Tracker:
    """Logs a run to its folder and sends the log to MLflow at intervals.

    Args:
        folder: folder of the run; an existing log in it is continued.
        experiment: name of the MLflow experiment.
        name: name of the MLflow run.
        others: folder of runs, ``<recipe>/<id>``, whose logs are sent as well where the same server lacks events of
            them; by default none.
    """

    def __init__(self, folder: Path, experiment: str, name: str, others: Path | None = None) -> None:
        self.folder = folder
        self._pushed_at = -float("inf")
        self._pause = _PUSH_EVERY_SECONDS
        self._sender = _Sender(folder, others)
        self._warned = False
        self._waiting: list[Mapping[str, Any]] = []
        self._writing = threading.Lock()
        if not (folder / STATE).exists():
            to = {"uri": without_secrets(tracking_uri()), "experiment": experiment, "name": name}
            record.write_state(folder, {**to, "run_id": None, "sent": 0})

    def params(self, values: Mapping[str, Any]) -> None:
        """Log settings as MLflow parameters; nested mappings become dotted names."""
        texts = {key: without_secrets(str(value)) for key, value in flat(values).items()}
        self._append({"event": "params", "values": texts})

    def tags(self, values: Mapping[str, str]) -> None:
        """Log MLflow tags of the run."""
        self._append({"event": "tags", "values": dict(values)})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log values of metrics at a training step, and send the log if the last time was long enough ago.

        A full disk does not end a training: the metrics are kept in memory and written with the next event.

        Args:
            values: value by name; undefined ones (NaN) are left out.
            step: optimizer step, from 1; 0 for results that may be measured again, as those of an evaluation.
        """
        event = _metrics_event(values, step)
        try:
            self._append(event)
        except CphlocError as error:
            if not self._waiting:
                _log.warning("%s; the training goes on, and the metrics are written later", error)
            self._waiting.append(event)
            return
        if time.monotonic() - self._pushed_at >= self._pause:
            self.push()

    def system(self, values: Mapping[str, float], step: int) -> None:
        """Log system metrics, which are sent with the next metrics; a full disk leaves them out."""
        with suppress(CphlocError):
            self._append(_metrics_event(values, step))

    def data(self, name: str, digest: str, context: str) -> None:
        """Log a data set as input of the run.

        Args:
            name: its name.
            digest: hash of its cases.
            context: what it is used for, ``training`` or a split.
        """
        self._append({"event": "data", "name": name, "digest": digest, "context": context})

    def rewind(self, step: int) -> None:
        """Remove the metrics of later steps than ``step`` that were not sent yet; a resumed training logs them again.

        Args:
            step: step of the checkpoint from which the training continues.
        """
        with suppress(CphlocError, OSError), record.locked(self.folder, _REWIND_SECONDS):  # else those sent stay
            sent = record.read_state(self.folder)["sent"]
            record.rewind(self.folder, step, sent)

    def artifact(self, path: Path, to: str = "") -> None:
        """Log a file in the folder of the run as MLflow artifact.

        Args:
            path: the file; its content is read when the log is sent.
            to: folder of the artifact on the server; by default its root.
        """
        self._append({"event": "artifact", "path": str(path.relative_to(self.folder)), "to": to})

    def end(self, status: str = "FINISHED") -> None:
        """Log the end of the run with a status (``FINISHED``, ``FAILED`` or ``KILLED``), and send the log."""
        self._append({"event": "end", "status": status, "time_ms": int(time.time() * 1000)})
        self._warned = False
        self.push()

    def _append(self, event: Mapping[str, Any]) -> None:
        """Append an event to the log, after the metrics that could not be written before."""
        with self._writing:
            record.append(self.folder, *self._waiting, event)
            self._waiting.clear()

    def push(self) -> None:
        """Send new events to MLflow in a thread; each failure doubles the interval until the next attempt.

        Returns when all is sent, or when the server has let the thread wait for 1.5 seconds.
        """
        failure = self._sender.send()
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS) if failure else _PUSH_EVERY_SECONDS
        self._pushed_at = time.monotonic()
        if failure and not self._warned:
            self._warned = True
            _log.warning("%s", failure)


def _metrics_event(values: Mapping[str, float], step: int) -> dict[str, Any]:
    """Event with the defined values of metrics."""
    defined = {name: float(value) for name, value in values.items() if math.isfinite(value)}
    return {"event": "metrics", "step": step, "time_ms": int(time.time() * 1000), "values": defined}


class _Sender:
    """A thread that sends the log of a run, and then the logs of other runs that the server lacks events of."""

    def __init__(self, folder: Path, others: Path | None) -> None:
        self.folder, self.others = folder, others
        self.failure = ""
        self._lock, self._done = threading.Lock(), threading.Event()
        self._requested, self._running = False, False

    def send(self) -> str:
        """Send the log, and wait while that makes progress; returns what went wrong, or an empty string."""
        with self._lock:
            self._done.clear()
            self._requested = True
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="mlflow", daemon=True).start()
        uri = record.read_state(self.folder)["uri"]
        if _waited_for(self._done, uri):
            return self.failure
        return f"MLflow at {uri} is busy or does not answer; {_kept(self.folder)}"

    def _run(self) -> None:
        while self._next():
            try:
                push(self.folder, wait_seconds=_OTHER_SENDER_SECONDS)
                self.failure = ""
            except Exception as error:  # nothing about tracking ends a training
                self.failure = str(error) or type(error).__name__
            with self._lock:
                if not self._requested:
                    self._done.set()
            if not self.failure and self.others is not None and self._send_others(self.others):
                self.others = None

    def _next(self) -> bool:
        """Whether there is more to send; otherwise the thread ends."""
        with self._lock:
            self._running, self._requested = self._requested, False
            return self._running

    def _send_others(self, runs: Path) -> bool:
        """Send what the server lacks of other runs; returns whether all were tried, not cut off by new events."""
        uri = record.read_state(self.folder)["uri"]
        for path in sorted(path for path in runs.glob(f"*/*/{STATE}") if not is_temporary(path.parent)):
            if self._requested:
                return False
            try:
                if record.read_state(path.parent)["uri"] == uri:
                    push(path.parent)
            except (CphlocError, OSError, ValueError, KeyError) as error:
                _log.debug("%s: %s", path.parent, error)
        return True


def run_id(folder: Path) -> str:
    """Return the id of the MLflow run of the run in ``folder``; an empty string before anything was sent."""
    return record.read_state(folder)["run_id"] or ""


def push(folder: Path, to: str | None = None, wait_seconds: float = 1.0) -> int:
    """Send the logged events of a run that MLflow does not have yet.

    Args:
        folder: folder of the run.
        to: URI of another MLflow server, to which all events are sent; by default the server of earlier calls.
        wait_seconds: how long to wait for another process or thread that sends events of the run.

    Returns:
        the number of events sent.

    Raises:
        NotFoundError: the folder contains no log.
        CphlocError: the server cannot be reached or rejects the events; they stay in the folder.
    """
    if not (folder / STATE).is_file():
        msg = f"{folder}: no {STATE} here; give the folder of a run"
        raise NotFoundError(msg)
    with record.locked(folder, wait_seconds):
        state = record.read_state(folder)
        if to is not None and without_secrets(to) != state["uri"]:
            state |= {"uri": without_secrets(to), "run_id": None, "sent": 0}
        if len(record.events(folder)) <= state["sent"]:
            return 0
        uri = server.with_secrets(state["uri"], to)
        with reaching(uri, _kept(folder)):
            if to is None:
                server.check_recipient(uri)
            return _push(folder, state, uri)


def _push(folder: Path, state: dict[str, Any], uri: str) -> int:
    """Send what is waiting to the run of ``state``, which is created if MLflow has none, or not any more."""
    client = server.client_of(uri)
    if state["run_id"] is None or server.usable_run(client, state["run_id"]) is None:
        experiment = server.experiment_id(client, uri, state["experiment"])
        state |= {"run_id": client.create_run(experiment, run_name=state["name"]).info.run_id, "sent": 0}
        record.write_state(folder, state)
    recorded = record.events(folder)
    sent, waiting = recorded[: state["sent"]], recorded[state["sent"] :]
    bundle = bundled(waiting)
    known = bundled(sent).steps | (server.steps_of(client, state["run_id"], bundle) if state.get("sending") else set())
    record.write_state(folder, state | {"sending": True})  # where this is cut off, the server is asked what it has
    server.send(client, state["run_id"], folder, bundle.without(known))
    flush(folder / EVENTS)  # a power cut must not leave fewer events than were sent
    record.write_state(folder, state | {"sent": len(recorded), "sending": False})
    return len(waiting)


def _kept(folder: Path) -> str:
    """Where the log of a run is, and how it is sent later, for messages."""
    return f"the run is kept in {folder / EVENTS}; the next training sends it, or: cphloc push {folder}"


def _waited_for(done: threading.Event, uri: str) -> bool:
    """Wait until an event is set, or until nothing has happened for `_IDLE_SECONDS`.

    Something happens while this process computes, as in the import of mlflow, or a local database changes.

    Returns:
        whether the event is set.
    """
    started = since = time.monotonic()
    before, spent = database_state(uri), time.process_time()
    while not done.wait(0.1) and time.monotonic() - started < _BUSY_SECONDS:
        now, used, state = time.monotonic(), time.process_time(), database_state(uri)
        if used - spent > _COMPUTING_SECONDS or state != before:
            since, spent, before = now, used, state
        elif now - since > _IDLE_SECONDS:
            break
    return done.is_set()
