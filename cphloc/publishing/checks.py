"""Checks before publishing: each lists the problems that prevent a run from being published."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.config.tables import text_of
from cphloc.data.io.source_files import content_digest
from cphloc.data.pipeline.seen import FITTED_BEFORE, SeenData, contents_of, some
from cphloc.errors import InputError, counted
from cphloc.registry.metrics import less_is_gain, quality, quality_range
from cphloc.structures.split import SPLITS, Split
from cphloc.tracking.run import Run
from cphloc.zoo.entry import Entry
from cphloc.zoo.measured import Metric, as_undefined, is_undefined
from cphloc.zoo.names import sha256_of

if TYPE_CHECKING:
    from cphloc.data.case import Case
    from cphloc.data.dataset import Dataset
    from cphloc.metrics.bootstrap import Interval
    from cphloc.registry.card import Card

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
    pinned = evaluation.get("rows_sha256")
    if pinned not in (None, sha256_of(rows.read_bytes())):
        return [f"{rows.name} is not of evaluation-{split}.json, one of them was cut off or edited: evaluate again"]
    baseline = evaluation.get("baseline") or {}
    tables = {"metric": evaluation.get("metrics") or {}, "baseline metric": baseline.get("metrics") or {}}
    tables |= {f"{name}'s metric": table for name, table in (evaluation.get("per_class") or {}).items()}
    problems = [] if tables["metric"] else ["the evaluation has no metric"]
    for what, table in tables.items():
        problems += [f"{what} '{name}' has no interval" for name, metric in table.items() if not _has_interval(metric)]
    values = [metric for metric in tables["metric"].values() if isinstance(metric, Mapping) and "low" in metric]
    if values and all(metric["low"] is None for metric in values):
        problems.append("no metric has an interval: all evaluated cases are of one patient; evaluate on two or more")
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


def origin_problems(facts: Mapping[str, Any], source: Card, runs: Sequence[Path]) -> list[str]:
    """List missing information on the origin: licence and citation of the data, facts of the training, weights.

    Args:
        facts: ``facts.json`` of the run.
        source: card of the data set.
        runs: folder of the run, or those of all folds.
    """
    problems = [
        f"the card of data set '{source.name}' states no {k}; state it in the recipe: data.about.{k}"
        for k in _OF_DATA
        if not getattr(source, k)
    ]
    problems += [f"facts.json of the run states no {k}" for k in _OF_RUN if facts.get(k) in (None, "", {})]
    if not all((run / "best.safetensors").is_file() for run in runs):
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
    problems = [f"{len(unknown)} evaluated cases are not in the {split} split: {some(unknown)}"] if unknown else []
    hashes = functools.cache(content_digest)  # of every file of a DICOM series
    for name, cases in ((split, held_out), ("val", splits["val"])):
        earlier = [case for other in FITTED_BEFORE[name] for case in splits[other]]
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
    before = " or ".join(FITTED_BEFORE[name])
    return [f"{len(found)} {name} {what} are also in {before}: {some(found)}" for what, found in leaks.items() if found]


def memory_problems(run: Run, evaluation: Mapping[str, Any], dataset: Dataset, split: Split) -> list[str]:
    """List where recipe, weights and data are not those of the training and of the evaluation any more.

    Args:
        run: the run.
        evaluation: its ``evaluation-<split>.json``.
        dataset: its data set, as it is now.
        split: the split that was evaluated.
    """
    problems = []
    try:
        run.check_recipe()
    except InputError as error:
        problems.append(str(error))
    weights = evaluation.get("weights_sha256")
    if weights is not None and weights != run.weights_sha256:
        problems.append("the evaluation is of other weights than best.safetensors holds now: evaluate the run again")
    evaluated: Mapping[str, str] = evaluation.get("contents") or {}
    seen = SeenData.read(run.folder)
    if seen is not None:
        cases = [case for case in dataset.cases(split) if case.id in set(evaluation.get("cases") or [])]
        changed = seen.changes(contents_of(dataset, ("train", "val")))
        problems += seen.leaks(cases, split)
        problems += [f"the data set has changed since the training: {change}" for change in changed]
    now = contents_of(dataset, (split,))[split] if evaluated else {}
    if new := sorted(now.keys() - evaluated.keys()):
        problems.append(f"{len(new)} {split} cases are new since the evaluation: {some(new)}; repeat it")
    if changed := [id for id, content in evaluated.items() if now.get(id, content) != content]:
        problems.append(f"{len(changed)} {split} cases have changed since the evaluation: {some(changed)}; repeat it")
    return problems


def cross_validation_problems(run: Run, evaluation: Mapping[str, Any]) -> list[str]:
    """List where recipe, weights and data are not those of the cross-validation any more, or a network saw its cases.

    Args:
        run: the cross-validation.
        evaluation: its ``evaluation-out_of_fold.json``.
    """
    from cphloc.evaluation.out_of_fold import OutOfFold, check_unchanged

    found = OutOfFold(run)
    try:
        check_unchanged(found)
    except InputError as error:
        return [str(error)]
    problems = []
    for number, folder in enumerate(run.fold_folders, start=1):
        seen, member = SeenData.read(folder), Run.open(folder)
        if seen is not None:
            problems += [f"fold {number}: {leak}" for leak in seen.leaks(found.held_out(number), "val")]
        stated = next((part for part in evaluation.get("folds") or [] if part["fold"] == number), {})
        if stated.get("weights_sha256") != member.weights_sha256:
            problems.append(f"fold {number}: the evaluation is of other weights: evaluate the cross-validation again")
    return problems


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
    sign = -1 if less_is_gain(metric) else 1
    patients = len({row.get("patient", row["case"]) for row in read_rows(rows).values() if row.get(metric, "1") != ""})
    few = patients < FEW_PATIENTS
    ends = [gain[end] for end in ("low", "high") if gain[end] is not None]  # none of one patient
    least = min(sign * end for end in ([gain["value"]] if few else ends))
    if least > 0:
        return []
    span = f" [{ends[0]:+.4f}, {ends[1]:+.4f}]" if ends else ""
    text = f"{metric} is not above the baseline ({name}): {gain['value']:+.4f}{span}"
    return [f"{text} paired over {counted(gain['n'], 'case')} of {counted(patients, 'patient')}; {how}"]


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
    shared = same_cases(name, new, old)
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


def same_cases(metric: str, first: Mapping[str, Mapping], second: Mapping[str, Mapping]) -> list[str]:
    """List the cases that two tables have a metric of, measured against the same annotation."""
    changed = set(changed_cases(first, second))
    shared = sorted(first.keys() & second.keys() - changed)
    return [case for case in shared if metric in first[case] and metric in second[case]]


def changed_cases(first: Mapping[str, Mapping], second: Mapping[str, Mapping]) -> list[str]:
    """List the cases of two tables that have one name and were measured against different annotations.

    Args:
        first, second: tables of `read_rows`; the column ``reference`` is the hash of the annotation, which tables of
            earlier versions do not have.
    """
    references = ((case, first[case].get("reference"), second[case].get("reference")) for case in first.keys() & second)
    return sorted(case for case, one, other in references if one and other and one != other)


def _paired_problem(name: str, new: Sequence[Mapping], old: Sequence[Mapping], last: Entry) -> list[str]:
    from cphloc.metrics.bootstrap import paired_difference

    patients = [row.get("patient", row["case"]) for row in new]
    values = [[quality(name, float(row[name])) for row in rows] for rows in (new, old)]
    gain = paired_difference(values[0], values[1], groups=patients)
    if not (gain.high < 0 and gain.p_value < 0.05):
        return []
    text = f"{name} is significantly worse than that of {last}: by {-gain.value:.4f} on {gain.n} cases"
    return [f"{text} (p = {gain.p_value:.3g}); give the reason with --because to publish it anyway"]


def _interval_problem(name: str, now: Interval | None, before: Interval | None, last: Entry) -> list[str]:
    if now is None or before is None:
        return []
    if quality_range(name, now)[1] >= quality_range(name, before)[0]:
        return []
    text = f"{name} {now.value:.4f} [{now.low:.4f}, {now.high:.4f}] is worse than that of {last}, {before.value:.4f}"
    return [f"{text} [{before.low:.4f}, {before.high:.4f}]; give the reason with --because to publish it anyway"]


def _has_interval(metric: Any) -> bool:
    if not isinstance(metric, Mapping):
        return False
    if "low" not in metric or "high" not in metric:
        return False
    if is_undefined(metric) or (metric["low"] is None and metric["high"] is None):
        return True
    return all(isinstance(metric[key], int | float) and math.isfinite(metric[key]) for key in ("value", "low", "high"))
