"""From the scores of cases to the table of an evaluation: values with 95 % intervals, CSV rows, tracking keys."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cphloc.errors import InputError
from cphloc.metrics.bootstrap import Interval, interval, weighted_bootstrap
from cphloc.metrics.evaluation import Statistic


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case.

    Args:
        id: of the case.
        patient: whose it is; patients are what the bootstrap draws.
        scores: by metric; NaN where undefined.
        facts: further columns of the CSV that are no scores, such as a probability.
    """

    id: str
    patient: str
    scores: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def summarize(
    cases: Sequence[CaseScores], pooled: Mapping[str, Statistic] | None = None, n: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Mean of every score, and every pooled statistic, with 95 % bootstrap intervals by patient.

    Args:
        cases: all cases; one that lacks a score of the others counts as undefined there.
        pooled: statistics of the weights of ``cases``, in the same order, from `cphloc.metrics.evaluation`.
        n: resamples.
        seed: of the resampling.

    Raises:
        InputError: no case, or a name that is both a score and a pooled statistic.

    >>> cases = [CaseScores("a", "p1", {"dice": 0.8}), CaseScores("b", "p2", {"dice": float("nan")})]
    >>> summarize(cases)["dice"]
    Interval(value=0.8, low=0.8, high=0.8, n=1, n_undefined=1)
    """
    if not cases:
        msg = "there is no case to summarize; the split is empty"
        raise InputError(msg)
    pooled = pooled or {}
    names = list(dict.fromkeys(name for case in cases for name in case.scores))
    if twice := sorted(set(names) & set(pooled)):
        msg = f"{', '.join(twice)} given both per case and pooled; rename one"
        raise InputError(msg)
    patients = [case.patient for case in cases]
    summary = {
        name: interval([case.scores.get(name, math.nan) for case in cases], patients, n=n, seed=seed) for name in names
    }
    return summary | {name: weighted_bootstrap(statistic, patients, n, seed) for name, statistic in pooled.items()}


def tracking_metrics(summary: Mapping[str, Interval], prefix: str = "test") -> dict[str, float]:
    """Flat ``{prefix/metric: value}`` with ``_ci_low`` and ``_ci_high``, as every run and entry logs them.

    Undefined values are left out, since a tracking server cannot compare them; where a metric was undefined in some
    cases, ``_undefined`` says in how many.

    >>> tracking_metrics({"dice": Interval(0.9, 0.8, 0.95, 10, 0)})
    {'test/dice': 0.9, 'test/dice_ci_low': 0.8, 'test/dice_ci_high': 0.95}
    """
    flat = {}
    for name, found in summary.items():
        key = f"{prefix}/{name}"
        values = {key: found.value, f"{key}_ci_low": found.low, f"{key}_ci_high": found.high}
        flat |= {k: v for k, v in values.items() if math.isfinite(v)}
        if found.n_undefined:
            flat[f"{key}_undefined"] = float(found.n_undefined)
    return flat


def write_csv(path: str | Path, cases: Sequence[CaseScores]) -> None:
    """Write one row per case: id, patient, scores, facts; undefined scores are empty cells.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_csv(Path(folder) / "cases.csv", [CaseScores("a", "p1", {"dice": 0.8})])
    ...     print((Path(folder) / "cases.csv").read_text().split())
    ['id,patient,dice', 'a,p1,0.8']
    """
    rows = [{"id": c.id, "patient": c.patient, **c.scores, **c.facts} for c in cases]
    columns = list(dict.fromkeys(["id", "patient", *(name for row in rows for name in row)]))
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value
