"""Compare entries and runs on the test cases they share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.errors import InputError
from cphloc.metrics.recommended import NSD_TOLERANCE_MM
from cphloc.publishing.card import CASES_FILE
from cphloc.publishing.checks import read_rows, same_cases
from cphloc.registry.metrics import is_signed
from cphloc.structures.split import OUT_OF_FOLD
from cphloc.zoo.entries import Listing
from cphloc.zoo.measured import is_undefined
from cphloc.zoo.resolve import resolve_run_or_entry
from cphloc.zoo.stored import checked_path, stored_recipe

if TYPE_CHECKING:
    from cphloc.metrics.bootstrap import Difference


@dataclass(frozen=True)
class Source:
    """An entry or a run.

    Args:
        name: its name.
        metrics: its metrics by their names in MLflow.
        rows: its values per case.
        tolerances_mm: tolerance of ``nsd`` by class, where it is not `NSD_TOLERANCE_MM`.
    """

    name: str
    metrics: Mapping[str, Mapping[str, Any]]
    rows: Mapping[str, Mapping[str, str]]
    tolerances_mm: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of all sources.

    Args:
        metric: its name in MLflow, ``test/dice``.
        values: of each source, ``None`` where it lacks the metric.
        difference: last source minus first, paired by case, of the distances from 0 for a signed error; ``None`` for a
            metric without values per case.
    """

    metric: str
    values: list[Mapping[str, Any] | None]
    difference: Difference | None


def compare(sources: Sequence[str | Path], split: str = "test") -> tuple[list[Source], list[ComparedMetric]]:
    """Compare entries and evaluated runs.

    Args:
        sources: two or more entries or runs.
        split: what the runs were evaluated on.

    Returns:
        the sources, and one line per metric that any of them has, under its name in MLflow: ``test/dice``,
        ``test/dice/tumour``, ``speed/ms_per_case``.

    Raises:
        NotFoundError: no such entry or run.
        InputError: fewer than two sources, or a run that was not evaluated.
    """
    if len(sources) < 2:
        msg = f"a comparison needs two entries or runs, got {len(sources)}"
        raise InputError(msg)
    found = [load_source(source, split) for source in sources]
    names = dict.fromkeys(name for one in found for name in one.metrics)
    prefixes = (f"{split}/", f"{OUT_OF_FOLD}/")
    return found, [
        ComparedMetric(n, [one.metrics.get(n) for one in found], _difference(_metric(n, prefixes), found[-1], found[0]))
        for n in names
    ]


def load_source(source: str | Path, split: str = "test") -> Source:
    """Read the metrics of an entry, of an evaluated run, or of a cross-validation the out-of-fold ones.

    Raises:
        NotFoundError: neither an entry nor a run.
        InputError: a run that was not evaluated on ``split`` with the weights it holds now, or whose recipe was edited.
    """
    run = resolve_run_or_entry(source)
    if isinstance(run, Listing):
        return _of_entry(run)
    split = OUT_OF_FOLD if run.is_cross_validation else split
    table, rows = run.evaluation_files(split)
    if not (table.is_file() and rows.is_file()):
        msg = f"run '{run.id}' was not evaluated: run 'cphloc evaluate {source} --split {split}' first"
        raise InputError(msg)
    run.check_recipe()
    facts = json.loads(table.read_text(encoding="utf-8"))
    if facts.get("weights_sha256") not in (None, run.weights_sha256):
        msg = f"run '{run.id}' was evaluated with other weights than it holds now: run 'cphloc evaluate {source}' again"
        raise InputError(msg)
    costs = {
        "speed/ms_per_case": facts["speed"]["ms_per_case"],
        "size/params_m": run.metrics.get("size/params_m"),
        "size/peak_ram_mb": facts["speed"]["peak_ram_mb"],
    }
    tolerances = run.recipe.nsd_tolerance_mm
    return Source(run.id, _named(split, facts["metrics"], facts["per_class"], costs), read_rows(rows), tolerances)


def _of_entry(found: Listing) -> Source:
    entry = found.entry
    of_all, per_class = (entry.evaluation.model_dump(include={part})[part] for part in ("metrics", "per_class"))
    costs = {
        "speed/ms_per_case": entry.speed.ms_per_case,
        "size/params_m": entry.size.parameters / 1e6,
        "size/peak_ram_mb": entry.size.peak_ram_mb,
    }
    rows = read_rows(checked_path(found, CASES_FILE)) if CASES_FILE in entry.files else {}
    tolerances = stored_recipe(found).nsd_tolerance_mm
    return Source(str(found), _named(entry.evaluation.split, of_all, per_class, costs), rows, tolerances)


def other_tolerances(first: Source, second: Source) -> list[str]:
    """List the classes whose ``nsd`` was measured with another tolerance in each."""
    classes = {*first.tolerances_mm, *second.tolerances_mm}
    mine, its = ({name: one.tolerances_mm.get(name, NSD_TOLERANCE_MM) for name in classes} for one in (first, second))
    return sorted(name for name in classes if mine[name] != its[name])


def _named(
    split: str, of_all: Mapping[str, Any], per_class: Mapping[str, Mapping[str, Any]], costs: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """Name metrics as MLflow's summary runs do; undefined ones are left out."""
    tables = {"": of_all, **{f"/{name}": table for name, table in per_class.items()}}
    named = {f"{split}/{metric}{c}": found for c, table in tables.items() for metric, found in table.items()}
    defined: dict[str, Mapping[str, Any]] = {n: found for n, found in named.items() if not is_undefined(found)}
    return defined | {name: {"value": value} for name, value in costs.items() if value is not None}


def _metric(name: str, prefixes: Sequence[str]) -> str:
    """Return the name of a metric without its split."""
    return next((name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)), name)


def _difference(metric: str, last: Source, first: Source) -> Difference | None:
    """Difference of a metric, paired by case and resampled by patient; ``None`` without comparable values per case."""
    from cphloc.metrics.bootstrap import paired_difference

    if metric.partition("/")[0] == "nsd" and other_tolerances(last, first):
        return None
    shared = same_cases(metric, last.rows, first.rows)
    if not shared:
        return None
    patients = [last.rows[case].get("patient", case) for case in shared]
    sizes = abs if is_signed(metric) else float
    ours, theirs = ([sizes(float(one.rows[case][metric])) for case in shared] for one in (last, first))
    return paired_difference(ours, theirs, groups=patients)
