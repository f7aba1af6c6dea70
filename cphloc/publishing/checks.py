"""Checks before publishing: each lists the problems that prevent a run from being published."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.config.tables import text_of
from cphloc.data.io.source_files import content_digest
from cphloc.registry.metrics import lower_is_better
from cphloc.structures.split import SPLITS, Split
from cphloc.zoo.entry import Entry, Metric, as_undefined, is_undefined

if TYPE_CHECKING:
    from cphloc.data.case import Case
    from cphloc.data.dataset import Dataset
    from cphloc.metrics.bootstrap import Interval
    from cphloc.registry.card import Card

_FITTED_BEFORE: dict[str, tuple[Split, ...]] = {"train": (), "val": ("train",), "test": ("train", "val")}
"""For each split, the splits that the weights or their selection depend on when it is used."""

FEW_PATIENTS = 6
"""Below this number of patients, a paired interval is too uncertain to decide."""

_OF_DATA = ("licence", "citation", "modality")
_OF_RUN = ("data_fingerprint", "seed", "packages")


def evaluation_problems(evaluation: Mapping[str, Any], split: str, rows: Path) -> list[str]:
    """List missing parts of a run's evaluation: metrics, intervals, a baseline, the names of the cases, the speed.

    Args:
        evaluation: ``evaluation-<split>.json``, or empty where there is none.
        split: its split.
        rows: its CSV with a row per case.
    """
    if not evaluation or not rows.is_file():
        missing = rows.name if evaluation else f"evaluation-{split}.json"
        return [f"{missing} is missing: run 'cphloc evaluate RUN --split {split}' first"]
    baseline = evaluation.get("baseline") or {}
    tables = {"metric": evaluation.get("metrics") or {}, "baseline metric": baseline.get("metrics") or {}}
    tables |= {f"{name}'s metric": table for name, table in (evaluation.get("per_class") or {}).items()}
    problems = [] if tables["metric"] else ["the evaluation has no metric"]
    for what, table in tables.items():
        problems += [f"{what} '{name}' has no interval" for name, metric in table.items() if not _has_interval(metric)]
    if not tables["baseline metric"]:
        problems.append("the evaluation has no baseline")
    elif not (evaluation.get("paired") or {}).get("metrics"):
        problems.append("the evaluation has no paired differences from the baseline: evaluate the run again")
    if not evaluation.get("cases"):
        problems.append("the evaluation does not name its cases")
    measured = evaluation.get("speed") or {}
    if not measured.get("ms_per_case"):
        problems.append("the evaluation has no ms_per_case")
    if "peak_ram_mb" not in measured:  # null on systems that do not measure it
        problems.append("the evaluation has no peak_ram_mb")
    return problems


def origin_problems(facts: Mapping[str, Any], source: Card, run: Path) -> list[str]:
    """List missing information on the origin: licence and citation of the data, facts of the training, weights.

    Args:
        facts: ``facts.json`` of the run.
        source: card of the data set.
        run: folder of the run.
    """
    problems = [
        f"the card of data set '{source.name}' states no {k}; state it in the recipe: data.about.{k}"
        for k in _OF_DATA
        if not getattr(source, k)
    ]
    problems += [f"facts.json of the run states no {k}" for k in _OF_RUN if facts.get(k) in (None, "", {})]
    if not (run / "best.safetensors").is_file():
        problems.append("best.safetensors is missing: the training has not finished")
    return problems


def leak_refusals(dataset: Dataset, evaluated: Sequence[str], split: Split) -> list[str]:
    """List cases that two splits share, by id, by patient, or by the content of an image file.

    Test cases may be neither in ``train`` nor in ``val``, and validation cases not in ``train``: validation chooses the
    weights and the calibration, so a leak into training would select weights that have memorized those cases.

    Args:
        dataset: the data set of the run.
        evaluated: ids of the cases whose metrics the entry states.
        split: the split they come from.
    """
    splits = {name: dataset.cases(name) for name in SPLITS}
    held_out = [case for case in splits[split] if case.id in set(evaluated)]
    unknown = sorted(set(evaluated) - {case.id for case in held_out})
    problems = [f"{len(unknown)} evaluated cases are not in the {split} split: {_some(unknown)}"] if unknown else []
    hashes = functools.cache(content_digest)  # of every file of a DICOM series
    for name, cases in ((split, held_out), ("val", splits["val"])):
        earlier = [case for other in _FITTED_BEFORE[name] for case in splits[other]]
        problems += _shared(name, cases, earlier, hashes)
    return problems


def _shared(name: str, cases: Sequence[Case], earlier: Sequence[Case], hashes: Callable[[Path], bytes]) -> list[str]:
    """Describe which of a split's cases, patients and images occur in the splits that come before it."""
    ids, patients = {case.id for case in earlier}, {case.patient for case in earlier}
    contents = {hashes(image) for case in earlier for image in case.images}
    leaks = {
        "cases": [case.id for case in cases if case.id in ids],
        "patients": sorted({case.patient for case in cases if case.patient in patients}),
        "images": [case.id for case in cases if any(hashes(image) in contents for image in case.images)],
    }
    before = " or ".join(_FITTED_BEFORE[name])
    return [
        f"{len(found)} {name} {what} are also in {before}: {_some(found)}" for what, found in leaks.items() if found
    ]


def baseline_problems(evaluation: Mapping[str, Any], metric: str, rows: Path) -> list[str]:
    """Check that the headline metric is above that of the baseline, paired by patient.

    The lower end of the 95 % interval of the difference must be above 0. Below `FEW_PATIENTS` patients, intervals mean
    little: the mean difference must be above 0.

    Args:
        evaluation: ``evaluation-<split>.json``.
        metric: the headline metric.
        rows: its CSV with a row per case.
    """
    name = (evaluation.get("baseline") or {}).get("name", "baseline")
    gain = ((evaluation.get("paired") or {}).get("metrics") or {}).get(metric)
    how = "improve the model, or give the reason with --below-baseline to publish it anyway"
    if gain is None or is_undefined(gain):
        return [f"{metric} cannot be compared with the baseline ({name}) on any case; {how}"]
    sign = -1 if lower_is_better(metric) else 1
    patients = len({row.get("patient", row["case"]) for row in read_rows(rows).values() if row.get(metric, "1") != ""})
    few = patients < FEW_PATIENTS
    least = sign * gain["value"] if few else min(sign * gain["low"], sign * gain["high"])
    if least > 0:
        return []
    text = (
        f"{metric} is not above the baseline ({name}): {gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
    )
    return [f"{text} paired over {gain['n']} cases of {patients} patients; {how}"]


def regression_problems(
    metrics: Mapping[str, Mapping[str, Any]], rows: Path, last: Entry, last_rows: Path | None
) -> list[str]:
    """Compare the headline metric with that of the version before; a significantly worse one is a problem.

    Compared on the cases both were evaluated on, paired, by patient. A metric without a value per case (AP, AUC) counts
    as worse where the intervals are apart.

    Args:
        metrics: of the new evaluation.
        rows: its CSV with a row per case.
        last: the version before.
        last_rows: the CSV of that version, if it has one.
    """
    name, before = last.headline
    if name not in metrics:
        return [f"{last} reports '{name}' but this run does not, so they cannot be compared; evaluate the run with it"]
    new, old = read_rows(rows), read_rows(last_rows) if last_rows is not None else {}
    shared = sorted(case for case in new.keys() & old.keys() if name in new[case] and name in old[case])
    if shared:
        return _paired_problem(name, [new[c] for c in shared], [old[c] for c in shared], last)
    now = metrics[name]
    now = Metric(**(as_undefined(now) if is_undefined(now) else now))
    return _interval_problem(name, now.interval, before.interval, last)


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """Read a CSV with a row per case into a mapping by case; empty cells are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{k: text_of(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return {row["case"]: row for row in rows}


def _paired_problem(name: str, new: Sequence[Mapping], old: Sequence[Mapping], last: Entry) -> list[str]:
    from cphloc.metrics.bootstrap import paired_difference

    patients = [row.get("patient", row["case"]) for row in new]
    sign = -1.0 if lower_is_better(name) else 1.0
    values = [[sign * float(row[name]) for row in rows] for rows in (new, old)]
    gain = paired_difference(values[0], values[1], groups=patients)
    if not (gain.high < 0 and gain.p_value < 0.05):
        return []
    text = f"{name} is significantly worse than that of {last}: by {-gain.value:.4f} on {gain.n} cases"
    return [f"{text} (p = {gain.p_value:.3g}); give the reason with --because to publish it anyway"]


def _interval_problem(name: str, now: Interval | None, before: Interval | None, last: Entry) -> list[str]:
    if now is None or before is None:
        return []
    worse = now.low > before.high if lower_is_better(name) else now.high < before.low
    if not worse:
        return []
    text = f"{name} {now.value:.4f} [{now.low:.4f}, {now.high:.4f}] is worse than that of {last}, {before.value:.4f}"
    return [f"{text} [{before.low:.4f}, {before.high:.4f}]; give the reason with --because to publish it anyway"]


def _has_interval(metric: Any) -> bool:
    if not isinstance(metric, Mapping):
        return False
    stated = [metric.get(key) for key in ("value", "low", "high")]
    return is_undefined(metric) or all(isinstance(v, int | float) and math.isfinite(v) for v in stated)


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
