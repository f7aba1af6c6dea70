"""The record of a run: every setting, metric and artifact, one JSON object a line, in the order it happened.

``tracking.jsonl`` holds the events; ``tracking.json`` says where they go and how many of them have arrived.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cphloc.paths import atomic

EVENTS, STATE = "tracking.jsonl", "tracking.json"

_REFUSED = re.compile(r"[^\w\-. :/]")
_LONGEST_PARAM = 6000


@dataclass
class Bundle:
    """Events by kind, as a tracking server takes them.

    Args:
        metrics: ``(name, value, time_ms, step)``.
        params, tags: by name.
        artifacts: folder on the server, by path in the run's folder; a file recorded twice is sent once.
        end: how the run ended, the last time that it did; ``None`` while it runs.
    """

    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    end: Mapping[str, Any] | None = None


def append(folder: Path, event: Mapping[str, Any]) -> None:
    """Add one event to the record of the run in ``folder``."""
    with (folder / EVENTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def events(folder: Path) -> list[dict[str, Any]]:
    """Everything recorded in a run's folder, in order; a line cut short by a crash is left out."""
    try:
        lines = (folder / EVENTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("}")]


def bundled(waiting: Iterable[Mapping[str, Any]]) -> Bundle:
    """Sort events by kind.

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
            case "end":
                bundle.end = event
    return bundle


def key_of(name: str) -> str:
    """A name as MLflow takes it.

    >>> key_of("freeze*")
    'freeze_'
    """
    return _REFUSED.sub("_", name)


def shortened(value: str) -> str:
    """MLflow cuts long values without a word; this says where the whole value stands."""
    whole = "... (whole in recipe.yaml)"
    return value if len(value) <= _LONGEST_PARAM else value[: _LONGEST_PARAM - len(whole)] + whole


def read_state(folder: Path) -> dict[str, Any]:
    """``uri``, ``experiment``, ``name``, ``run_id`` and how many events were ``sent``."""
    return json.loads((folder / STATE).read_text(encoding="utf-8"))


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Keep what `read_state` reads."""
    with atomic(folder / STATE) as draft:
        draft.write_text(json.dumps(state, indent=2), encoding="utf-8")


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Each recorded metric as ``(step, value)``, rising; of values repeated by a resumed run the later counts."""
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        if event["event"] == "metrics":
            for name, value in event["values"].items():
                found.setdefault(name, {})[event["step"]] = value
    return {name: sorted(values.items()) for name, values in found.items()}


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
