"""Log of a run on disk: settings, metrics and artifacts in order of time, to be sent to MLflow.

``tracking.jsonl`` contains one event per line as a JSON object. ``tracking.json`` contains the address of the MLflow
server, the id of the MLflow run and the number of events sent so far.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cphloc import files
from cphloc.config import jsonio
from cphloc.errors import CphlocError
from cphloc.files import atomic

EVENTS, STATE = "tracking.jsonl", "tracking.json"

_REFUSED = re.compile(r"[^\w\-. /]|^/|/$|(?<=/)/|(?:(?<=/)|^)\.{1,2}(?=/|$)|_(?=x[0-9A-F]{2,6}_)")
_ESCAPED = re.compile(r"_x([0-9A-F]{2,6})_")
_LONGEST_PARAM = 6000


@dataclass
class Bundle:
    """Events grouped by kind, ready to be sent to MLflow.

    Args:
        metrics: ``(name, value, time_ms, step)`` of each value, time in milliseconds since 1970.
        params: values of settings by name.
        tags: values of tags by name.
        artifacts: folder on the server by path in the run's folder; a file recorded twice is sent once.
        data: ``(name, digest, context)`` of each data set.
        end: last event of kind ``end``; ``None`` while the run has not ended.
    """

    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    data: list[tuple[str, str, str]] = field(default_factory=list)
    end: Mapping[str, Any] | None = None

    @property
    def steps(self) -> set[tuple[str, int]]:
        """``(name, step)`` of every metric of a training step; step 0 is of results, which may be measured again."""
        return {(name, step) for name, _, _, step in self.metrics if step}

    def without(self, known: Collection[tuple[str, int]]) -> Bundle:
        """Return the bundle without the metrics that a server has already; of a step that is logged twice the last."""
        last = {(name, step): (name, value, time_ms, step) for name, value, time_ms, step in self.metrics}
        return replace(self, metrics=[metric for key, metric in last.items() if key not in known])


def append(folder: Path, *added: Mapping[str, Any]) -> None:
    """Append events to the log of the run in ``folder``.

    Raises:
        CphlocError: they cannot be written, for example because the disk is full; the log is as before.
    """
    files.append(folder / EVENTS, "".join(jsonio.dumps(event) + "\n" for event in added).encode())


def rewind(folder: Path, step: int, sent: int) -> None:
    """Remove the metrics of later steps than ``step`` from the log, apart from the first ``sent`` events.

    System metrics, whose steps are those of their sampler, are kept.
    """

    def stays(event: Mapping[str, Any]) -> bool:
        """Return whether an event is not repeated when the training goes on from ``step``."""
        return (
            event["event"] != "metrics"
            or event["step"] <= step
            or all(n.startswith("system/") for n in event["values"])
        )

    kept = [event for number, event in enumerate(events(folder)) if number < sent or stays(event)]
    with atomic(folder / EVENTS) as draft:
        draft.write_text("".join(jsonio.dumps(event) + "\n" for event in kept), encoding="utf-8")


def events(folder: Path) -> list[dict[str, Any]]:
    """Read all events of the run in ``folder``, in order; a line left incomplete by a crash is skipped."""
    try:
        lines = (folder / EVENTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [event for line in lines if (event := _parsed(line)) is not None]


def _parsed(line: str) -> dict[str, Any] | None:
    """The event on a line; ``None`` if the line is incomplete."""
    try:
        return json.loads(line)
    except ValueError:
        return None


@contextmanager
def locked(folder: Path, seconds: float) -> Iterator[None]:
    """Let one process or thread at a time send the log of the run in ``folder``.

    Args:
        folder: folder of the run.
        seconds: how long to wait while another one sends it.

    Raises:
        CphlocError: another one sends it still.
    """
    import filelock

    lock = folder / ".tracking.lock"
    try:
        with filelock.FileLock(lock, timeout=seconds):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no file that is open
                    lock.unlink()
    except filelock.Timeout:
        msg = f"{folder}: this run is being sent to MLflow already; wait until that has ended"
        raise CphlocError(msg) from None


def bundled(waiting: Iterable[Mapping[str, Any]]) -> Bundle:
    """Group events by kind.

    >>> bundled([{"event": "params", "values": {"a": "1"}}, {"event": "artifact", "path": "x.png", "to": ""}]).params
    {'a': '1'}
    """
    bundle = Bundle()
    for event in waiting:
        match event["event"]:
            case "metrics":
                at = event["time_ms"], event["step"]
                bundle.metrics += [(name, value, *at) for name, value in event["values"].items()]
            case "params":
                bundle.params |= event["values"]
            case "tags":
                bundle.tags |= event["values"]
            case "artifact":
                bundle.artifacts[event["path"]] = event["to"]
            case "data":
                bundle.data.append((event["name"], event["digest"], event["context"]))
            case "end":
                bundle.end = event
    return bundle


def key_of(name: str) -> str:
    """Return the key of a name in MLflow: characters that it does not allow become ``_xHH_``, their code in hex.

    Different names have different keys, and `name_of` gives the name again.

    >>> key_of("dice/T1+"), key_of("dice/T1*"), key_of("dice/T1"), key_of("dice/肺")
    ('dice/T1_x2B_', 'dice/T1_x2A_', 'dice/T1', 'dice/肺')
    """
    return _REFUSED.sub(lambda found: "".join(f"_x{ord(character):02X}_" for character in found[0]), name)


def name_of(key: str) -> str:
    """Return the name of which `key_of` made ``key``.

    >>> name_of("dice/T1_x2B_")
    'dice/T1+'
    """
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), key)


def shortened(value: str) -> str:
    """Shorten a value to the length that MLflow stores (6,000 characters), with a reference to ``recipe.yaml``."""
    whole = "... (complete in recipe.yaml)"
    return value if len(value) <= _LONGEST_PARAM else value[: _LONGEST_PARAM - len(whole)] + whole


def read_state(folder: Path) -> dict[str, Any]:
    """Read the state of the log: ``uri``, ``experiment``, ``name``, ``run_id`` and the number of events ``sent``."""
    return json.loads((folder / STATE).read_text(encoding="utf-8"))


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state of the log, see `read_state`."""
    with atomic(folder / STATE) as draft:
        draft.write_text(jsonio.dumps(state, indent=2), encoding="utf-8")


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read every metric of the run in ``folder`` as ``(step, value)`` pairs in order of steps.

    If a resumed run recorded a step twice, the later value is returned.
    """
    by_name: dict[str, dict[int, float]] = {}
    for event in events(folder):
        if event["event"] == "metrics":
            for name, value in event["values"].items():
                by_name.setdefault(name, {})[event["step"]] = value
    return {name: sorted(values.items()) for name, values in by_name.items()}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to one level of dotted names; lists of mappings are numbered from 0.

    >>> flat({"train": {"steps": 5}, "augment": [{"type": "Flip"}], "patch": [8, 8]})
    {'train.steps': 5, 'augment.0.type': 'Flip', 'patch': [8, 8]}
    """
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list | tuple) and any(isinstance(entry, Mapping) for entry in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result
