"""Aggregate the metrics of all jobs of a study into rows with intervals, paired differences and a verdict."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cphloc.config import jsonio
from cphloc.config.tables import write_table
from cphloc.files import atomic
from cphloc.metrics.bootstrap import Difference
from cphloc.studies.confounds import confounds
from cphloc.studies.rows import Row, row_difference
from cphloc.studies.study import Condition, Study

Verdict = Literal["holds", "fails", "undecided"]

FORMAT = 2
"""Version of the layout of ``results.json``."""

FEWEST_SEEDS = 5
"""A condition is undecided where its interval is over fewer seeds."""


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

    @cached_property
    def rows(self) -> list[Row]:
        """Rows in the order of the arms, each arm followed by its variants, at every value of the grid."""
        rows = []
        for cell in self.study.cells:
            found = {f["seed"]: f for f in self.found if (f["arm"], f["at"]) == (cell.arm, cell.at)}
            by_seed = [found.get(seed, {}) for seed in self.study.seeds]
            for variant in dict.fromkeys(variant for one in by_seed for variant in one.get("values", {})):
                values, censored, baseline = (
                    [one.get(part, {}).get(variant, {}) for one in by_seed]
                    for part in ("values", "censored", "baseline")
                )
                metrics = [m for m in self.study.text.metrics if any(m in one for one in values)]
                if metrics:
                    name = "/".join(part for part in (cell.arm, variant) if part)
                    limits = {m: [m in one for one in censored] for m in metrics if any(m in one for one in censored)}
                    rows.append(Row(name, cell.at, _columns(metrics, values), limits, _columns(metrics, baseline)))
        return rows

    @cached_property
    def not_learned(self) -> list[str]:
        """Arms of which no row is above its baseline, although the claim does not say that they cannot learn."""
        above: dict[str, list[bool]] = {}
        for row in self.rows:
            if (known := row.above_baseline) is not None:
                above.setdefault(row.name.split("/")[0], []).append(known)
        return [arm for arm, rows in above.items() if not any(rows) and arm not in self.study.text.cannot_learn]

    def difference(self, pair: Sequence[str], metric: str, at: Any = None) -> Difference | None:
        """Compute the difference of two rows, paired by seed.

        Args:
            pair: names of two rows; the second is subtracted from the first.
            metric: name of the metric.
            at: value of the grid.

        Returns:
            the mean difference with its interval; ``None`` where one of the rows does not have the metric. Where values
            are censored, the difference itself is unknown (NaN), and the interval is as wide as their bounds allow.
        """
        first, second = (self._row(name, at) for name in pair)
        if first is None or second is None or not (metric in first.values and metric in second.values):
            return None
        return row_difference(first, second, metric)

    @property
    def differences(self) -> list[tuple[Sequence[str], Any, str, Difference]]:
        """Pair, value of the grid, metric and difference of every comparison; costs are not compared."""
        at = list(dict.fromkeys(cell.at for cell in self.study.cells))
        text = self.study.text
        metrics = [metric for metric in text.metrics if metric not in text.costs]
        compared = ((pair, where, m) for pair in text.compare for where in at for m in metrics)
        found = ((pair, where, m, self.difference(pair, m, where)) for pair, where, m in compared)
        return [(pair, where, metric, value) for pair, where, metric, value in found if value is not None]

    def decide(self, condition: Condition) -> Verdict:
        """Decide a condition from its 95 % interval.

        Returns:
            ``holds`` where the whole interval is on the required side of the threshold, ``fails`` where the whole
            interval is on the other side, else ``undecided``; so it is too where one of its arms did not learn above
            its baseline.
        """
        if {name.split("/")[0] for name in condition.compare or [condition.row or ""]} & set(self.not_learned):
            return "undecided"
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

    @classmethod
    def of_facts(cls, study: Study, facts: Mapping[str, Any]) -> Results:
        """Return the results of a study from the values per seed that ``results.json`` holds.

        Args:
            study: the study; its conditions decide the values anew.
            facts: from `facts`, of a study with the same `Study.sha256`.
        """
        found: dict[tuple[str, Any, int], dict[str, Any]] = {}
        for row, (number, seed) in itertools.product(facts["rows"], enumerate(facts["seeds"])):
            arm, _, variant = row["row"].partition("/") if study.text.arms else ("", "", row["row"])
            job = found.setdefault((arm, row["at"], seed), {"arm": arm, "at": row["at"], "seed": seed, "seconds": 0.0})
            for part in ("values", "baseline"):
                job.setdefault(part, {})[variant] = {m: values[number] for m, values in row[part].items()}
            job.setdefault("censored", {})[variant] = [m for m, flags in row["censored"].items() if flags[number]]
        jobs = list(found.values())
        for job, sha in itertools.zip_longest(jobs, facts["recipes_sha256"][: len(jobs)]):
            job["recipe_sha256"] = sha
        if jobs:
            jobs[0]["seconds"] = facts["cpu_seconds"]
        return cls(study, jobs)

    def facts(self) -> dict[str, Any]:
        """Return the content of ``results.json``."""
        text = self.study.text
        return jsonio.plain(
            {
                "format": FORMAT,
                "study": self.study.name,
                "study_sha256": self.study.sha256,
                **{key: getattr(text, key) for key in ("claim", "expected", "chapter", "setup", "metrics")},
                **({"against": text.against} if text.against else {}),
                "seeds": self.study.seeds,
                "complete": self.complete,
                "verdict": self.verdict,
                "conditions": [
                    {**condition.model_dump(exclude_none=True), "verdict": self.decide(condition)}
                    for condition in text.verdict
                ],
                "not_learned": self.not_learned,
                "confounds": [asdict(one) for one in confounds(self.study)],
                "rows": [
                    {
                        "row": row.name,
                        "at": row.at,
                        "metrics": {m: {**row.interval(m)._asdict(), **row.n_censored(m)} for m in row.values},
                        "values": row.values,
                        "censored": row.censored,
                        "baseline": row.baseline,
                    }
                    for row in self.rows
                ],
                "differences": [
                    {"first": pair[0], "second": pair[1], "at": at, "metric": metric, **value._asdict()}
                    | self._n_censored(pair, metric, at)
                    for pair, at, metric, value in self.differences
                ],
                "cpu_seconds": round(sum(f["seconds"] for f in self.found), 1),
                "recipes_sha256": sorted({f["recipe_sha256"] for f in self.found if f["recipe_sha256"]}),
            }
        )

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

    def _n_censored(self, pair: Sequence[str], metric: str, at: Any) -> dict[str, int]:
        """Return ``n_censored``, the number of seeds with a censored value in a pair of rows, if there are any."""
        rows = [row for name in pair if (row := self._row(name, at)) is not None and metric in row.censored]
        return {"n_censored": sum(map(any, zip(*(row.censored[metric] for row in rows), strict=True)))} if rows else {}

    def _row(self, name: str | None, at: Any) -> Row | None:
        return next((row for row in self.rows if (row.name, row.at) == (name, at)), None)


def limits_text(found: Mapping[str, Any], sign: str = "") -> str:
    """Format a value or difference of which censored values leave only limits, such as ``at least 180``.

    Args:
        found: ``value``, ``low``, ``high``, ``n`` and ``n_censored``, from `Results.facts`.
        sign: ``+`` to write the sign of positive numbers.
    """
    if found["value"] is not None:
        return f"at least {found['value']:{sign}.4g} ({found['n_censored']} of {found['n']} censored)"
    ends = ((side, found[end]) for side, end in (("above", "low"), ("below", "high")))
    return " and ".join(f"{side} {v:{sign}.4g}" for side, v in ends if v is not None) or "unknown (censored)"


def condition_text(condition: Mapping[str, Any]) -> str:
    """Format a condition as one line, such as ``dice: a - b > 0``."""
    what = " - ".join(condition["compare"]) if "compare" in condition else condition["row"]
    side = f"> {condition['above']:g}" if "above" in condition else f"< {condition['below']:g}"
    where = f" at {condition['at']}" if condition.get("at") is not None else ""
    return f"{condition['metric']}: {what} {side}{where}"


def _all(verdicts: Iterable[Verdict]) -> Verdict:
    found = set(verdicts)
    return "fails" if "fails" in found else "undecided" if "undecided" in found else "holds"


def _columns(metrics: Iterable[str], by_seed: Sequence[Mapping[str, float | None]]) -> dict[str, list[float]]:
    """Return the values per seed of the metrics that some seed has."""
    given = (m for m in metrics if any(m in values for values in by_seed))
    return {m: [jsonio.number(values.get(m)) for values in by_seed] for m in given}
