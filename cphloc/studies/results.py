"""Aggregate the metrics of all jobs of a study into rows with intervals, paired differences and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cphloc.config.tables import write_table
from cphloc.files import atomic
from cphloc.metrics.bootstrap import Difference, Interval, interval, paired_difference
from cphloc.studies.study import Condition, Study

Verdict = Literal["holds", "fails", "undecided"]

FORMAT = 1
"""Version of the layout of ``results.json``."""

FEWEST_SEEDS = 5
"""A condition is undecided where its interval is over fewer seeds."""


@dataclass(frozen=True)
class Row:
    """One row of the results table: an arm, or a variant of it, at one value of the grid.

    Args:
        name: ``arm`` or ``arm/variant``.
        at: value of the grid; ``None`` in a study without a grid.
        values: for each metric one value per seed, in the order of the seeds; NaN where undefined.
    """

    name: str
    at: Any
    values: Mapping[str, list[float]]

    @property
    def title(self) -> str:
        """Name of the row, followed by the value of the grid if there is one."""
        return self.name if self.at is None else f"{self.name} @ {self.at}"

    def interval(self, metric: str) -> Interval:
        """Return the mean of a metric over the seeds with its 95 % bootstrap interval."""
        return interval(self.values[metric])


@dataclass(frozen=True)
class Results:
    """Results of the finished jobs of a study.

    Args:
        study: the study.
        found: result of `cphloc.studies.jobs.run` for every finished job.
    """

    study: Study
    found: Sequence[Mapping[str, Any]]

    @property
    def complete(self) -> bool:
        """Whether every job is finished."""
        return len(self.found) == len(self.study.seeds) * len(self.study.cells)

    @property
    def rows(self) -> list[Row]:
        """Rows in the order of the arms, each arm followed by its variants, at every value of the grid."""
        rows = []
        for cell in self.study.cells:
            by_seed = {f["seed"]: f["values"] for f in self.found if (f["arm"], f["at"]) == (cell.arm, cell.at)}
            for variant in dict.fromkeys(variant for values in by_seed.values() for variant in values):
                known = [by_seed.get(seed, {}).get(variant, {}) for seed in self.study.seeds]
                metrics = [m for m in self.study.text.metrics if any(m in values for values in known)]
                if metrics:
                    name = "/".join(part for part in (cell.arm, variant) if part)
                    columns = {m: [_number(values.get(m)) for values in known] for m in metrics}
                    rows.append(Row(name, cell.at, columns))
        return rows

    def difference(self, pair: Sequence[str], metric: str, at: Any = None) -> Difference | None:
        """Compute the difference of two rows, paired by seed.

        Args:
            pair: names of two rows; the second is subtracted from the first.
            metric: name of the metric.
            at: value of the grid.

        Returns:
            the mean difference with its interval; ``None`` where one of the rows does not have the metric.
        """
        first, second = (self._row(name, at) for name in pair)
        if first is None or second is None or not (metric in first.values and metric in second.values):
            return None
        return paired_difference(first.values[metric], second.values[metric])

    @property
    def differences(self) -> list[tuple[Sequence[str], Any, str, Difference]]:
        """Pair, value of the grid, metric and difference of every comparison."""
        at = list(dict.fromkeys(cell.at for cell in self.study.cells))
        text = self.study.text
        compared = ((pair, where, m) for pair in text.compare for where in at for m in text.metrics)
        found = ((pair, where, m, self.difference(pair, m, where)) for pair, where, m in compared)
        return [(pair, where, metric, value) for pair, where, metric, value in found if value is not None]

    def decide(self, condition: Condition) -> Verdict:
        """Decide a condition from its 95 % interval.

        Returns:
            ``holds`` where the whole interval is on the required side of the threshold, ``fails`` where the whole
            interval is on the other side, else ``undecided``.
        """
        every = list(dict.fromkeys(cell.at for cell in self.study.cells))
        return _all(self._decide_at(condition, at) for at in (every if condition.at is None else [condition.at]))

    def _decide_at(self, condition: Condition, at: Any) -> Verdict:
        if condition.compare:
            found: Any = self.difference(condition.compare, condition.metric, at)
        else:
            row = self._row(condition.row, at)
            found = row.interval(condition.metric) if row is not None and condition.metric in row.values else None
        if found is None or math.isnan(found.low) or found.n < FEWEST_SEEDS:
            return "undecided"
        if condition.above is not None:
            return "holds" if found.low > condition.above else "fails" if found.high <= condition.above else "undecided"
        return "holds" if found.high < condition.below else "fails" if found.low >= condition.below else "undecided"

    @property
    def verdict(self) -> Verdict | None:
        """``holds`` where every condition holds, ``fails`` where one fails, else ``undecided``.

        ``None`` where the study has no conditions or is not complete.
        """
        if not self.study.text.verdict or not self.complete:
            return None
        return _all(self.decide(condition) for condition in self.study.text.verdict)

    def facts(self) -> dict[str, Any]:
        """Return the content of ``results.json``."""
        text = self.study.text
        return {
            "format": FORMAT,
            "study": self.study.name,
            "study_sha256": self.study.sha256,
            **{key: getattr(text, key) for key in ("claim", "expected", "chapter", "setup", "metrics")},
            "seeds": self.study.seeds,
            "complete": self.complete,
            "verdict": self.verdict,
            "conditions": [
                {**condition.model_dump(exclude_none=True), "verdict": self.decide(condition)}
                for condition in text.verdict
            ],
            "rows": [
                {
                    "row": row.name,
                    "at": row.at,
                    "metrics": {m: _interval(row.interval(m)) for m in row.values},
                    "values": {m: [_or_none(v) for v in values] for m, values in row.values.items()},
                }
                for row in self.rows
            ],
            "differences": [
                {"first": pair[0], "second": pair[1], "at": at, "metric": metric, **_interval(value)}
                for pair, at, metric, value in self.differences
            ],
            "cpu_seconds": round(sum(f["seconds"] for f in self.found), 1),
            "recipes_sha256": sorted({f["recipe_sha256"] for f in self.found if f["recipe_sha256"]}),
        }

    def write_csv(self, path: Path) -> None:
        """Write a CSV file with one line per row, value of the grid, seed and metric."""
        rows = (
            (row.name, "" if row.at is None else row.at, seed, metric, "" if math.isnan(value) else value)
            for row in self.rows
            for metric, values in row.values.items()
            for seed, value in zip(self.study.seeds, values, strict=True)
        )
        with atomic(path) as temporary:
            write_table(temporary, ("row", "at", "seed", "metric", "value"), rows, newline="\n")

    def _row(self, name: str | None, at: Any) -> Row | None:
        return next((row for row in self.rows if (row.name, row.at) == (name, at)), None)


def condition_text(condition: Mapping[str, Any]) -> str:
    """Format a condition as one line, such as ``dice: a - b > 0``."""
    what = " - ".join(condition["compare"]) if "compare" in condition else condition["row"]
    side = f"> {condition['above']:g}" if "above" in condition else f"< {condition['below']:g}"
    where = f" at {condition['at']}" if condition.get("at") is not None else ""
    return f"{condition['metric']}: {what} {side}{where}"


def _all(verdicts: Iterable[Verdict]) -> Verdict:
    found = set(verdicts)
    return "fails" if "fails" in found else "undecided" if "undecided" in found else "holds"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _interval(found: Interval | Difference) -> dict[str, Any]:
    return {key: _or_none(value) if isinstance(value, float) else value for key, value in found._asdict().items()}
