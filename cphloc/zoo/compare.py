"""Entries and runs side by side, on the same test cases where they share them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cphloc.errors import NotFoundError
from cphloc.metrics.bootstrap import Difference, paired_difference
from cphloc.zoo.card import CASES_FILE
from cphloc.zoo.lock import find_locked
from cphloc.zoo.refusals import read_rows


@dataclass(frozen=True)
class Measured:
    """One entry or run: its metrics with intervals, and its cases where they are kept.

    Args:
        name: of the entry version, or of the run.
        metrics: ``{"dice": {"value": ..., "low": ..., "high": ..., "n": ...}}``.
        rows: values by case and metric.
    """

    name: str
    metrics: Mapping[str, Mapping[str, Any]]
    rows: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Compared:
    """A metric of all sources; ``difference`` is last minus first on the cases they share, where it can be tested."""

    metric: str
    values: tuple[Mapping[str, Any] | None, ...]
    difference: Difference | None


def compare(sources: Sequence[str | Path]) -> tuple[list[Measured], list[Compared]]:
    """Put entries or runs side by side.

    Args:
        sources: entries (``name@version``) or runs that have been evaluated on their test split.

    Returns:
        the sources, and one line per metric; of two or more, the last is compared with the first by a paired test on
        the cases that both were measured on.

    Raises:
        NotFoundError: neither an entry nor an evaluated run.
    """
    measured = [_measured(source) for source in sources]
    names = dict.fromkeys(name for m in measured for name in m.metrics)
    lines = [
        Compared(name, tuple(m.metrics.get(name) for m in measured), _difference(name, measured[0], measured[-1]))
        for name in names
    ]
    return measured, lines


def _measured(source: str | Path) -> Measured:
    from cphloc.training.run import Run

    try:
        run = Run.open(source)
    except NotFoundError:
        listing = find_locked(source)
        metrics = {name: metric.model_dump() for name, metric in listing.entry.evaluation.metrics.items()}
        rows = read_rows(listing.path(CASES_FILE)) if CASES_FILE in listing.entry.files else {}
        return Measured(str(listing), metrics, rows)
    facts = run.folder / "evaluation-test.json"
    if not facts.is_file():
        msg = f"run {run.id} has not been measured: cphloc evaluate {run.folder} --split test"
        raise NotFoundError(msg)
    return Measured(run.id, json.loads(facts.read_text())["metrics"], read_rows(facts.with_suffix(".csv")))


def _difference(name: str, first: Measured, last: Measured) -> Difference | None:
    shared = [c for c in first.rows if name in first.rows[c] and name in last.rows.get(c, {})]
    if first is last or not shared:
        return None
    patients = [first.rows[case].get("patient", case) for case in shared]
    values = [[float(source.rows[case][name]) for case in shared] for source in (last, first)]
    return paired_difference(*values, groups=patients)
