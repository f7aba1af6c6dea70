"""The record of a run: every setting, metric and artifact, one JSON object a line, in the order it happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EVENTS = "tracking.jsonl"


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
