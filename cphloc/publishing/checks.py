"""Why a run may not be published: every reason at once."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.registry.metrics import lower_is_better
from cphloc.zoo.entry import Entry, File, Metric, as_undefined, is_undefined

if TYPE_CHECKING:
    from cphloc.data.dataset import Dataset
    from cphloc.registry.card import Card

_OF_DATA = ("licence", "citation", "modality")
_OF_RUN = ("data_fingerprint", "seed", "packages")


def metric_refusals(evaluation: Mapping[str, Any] | None, split: str, rows: Path) -> list[str]:
    """What a run's evaluation lacks: itself, the baseline beside it, an interval, its cases, the speed."""
    if evaluation is None or not rows.is_file():
        missing = f"evaluation-{split}.json" if evaluation is None else rows.name
        return [f"{missing} is missing: run 'cphloc evaluate RUN --split {split}' first"]
    baseline = evaluation.get("baseline") or {}
    tables = {"metric": evaluation.get("metrics") or {}, "baseline metric": baseline.get("metrics") or {}}
    tables |= {f"{name}'s metric": table for name, table in (evaluation.get("per_class") or {}).items()}
    said = [] if tables["metric"] else ["the evaluation holds no metric"]
    for what, table in tables.items():
        said += [f"{what} '{name}' has no interval" for name, metric in table.items() if not _has_interval(metric)]
    if not tables["baseline metric"]:
        said.append("there is no baseline beside the metrics")
    if not evaluation.get("cases"):
        said.append("the evaluation does not say which cases it used")
    measured = evaluation.get("speed") or {}
    said += [f"the evaluation measured no {key}" for key in ("ms_per_case", "peak_ram_mb") if not measured.get(key)]
    return said


def fact_refusals(facts: Mapping[str, Any], source: Card, run: Path) -> list[str]:
    """What is not known about the data or the training, and weights that are missing."""
    said = [f"the card of data set '{source.name}' states no {k}" for k in _OF_DATA if not getattr(source, k)]
    said += [f"facts.json of the run states no {k}" for k in _OF_RUN if facts.get(k) in (None, "", {})]
    if not (run / "best.safetensors").is_file():
        said.append("best.safetensors is missing: the training has not finished")
    return said


def leak_refusals(dataset: Dataset, test_cases: Sequence[str], split: str) -> list[str]:
    """Test cases that the training saw: by id, by patient, or by the content of an image file."""
    held_out = [case for case in dataset.cases(split) if case.id in set(test_cases)]
    unknown = sorted(set(test_cases) - {case.id for case in held_out})
    said = [f"{len(unknown)} evaluated cases are not in the {split} split: {_some(unknown)}"] if unknown else []
    seen = [case for name in ("train", "val") if name != split for case in dataset.cases(name)]
    ids, patients = {case.id for case in seen}, {case.patient for case in seen}
    contents = {File.of(image).sha256 for case in seen for image in case.images}
    for why, leaked in (
        ("cases", [c.id for c in held_out if c.id in ids] + [i for i in unknown if i in ids]),
        ("patients", sorted({c.patient for c in held_out if c.patient in patients})),
        ("images", [c.id for c in held_out if any(File.of(image).sha256 in contents for image in c.images)]),
    ):
        if leaked:
            said.append(f"{len(leaked)} test {why} were seen in training: {_some(leaked)}")
    return said


def worse_refusal(
    metrics: Mapping[str, Mapping[str, Any]], rows: Path, last: Entry, last_rows: Path | None
) -> list[str]:
    """Whether the headline metric is significantly worse than that of the version before.

    Tested on the cases both were evaluated on, paired, by patient; a metric without a value per case (AP, AUC) counts
    as worse where the intervals are apart.
    """
    name, before = last.headline
    if name not in metrics:
        return [f"{last} reports '{name}' and this run does not, so they cannot be compared"]
    new, old = read_rows(rows), read_rows(last_rows) if last_rows is not None else {}
    shared = sorted(case for case in new.keys() & old.keys() if name in new[case] and name in old[case])
    if shared:
        return _paired_refusal(name, [new[c] for c in shared], [old[c] for c in shared], last)
    now = metrics[name]
    return _apart_refusal(name, Metric(**(as_undefined(now) if is_undefined(now) else now)), before, last)


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a per-case CSV by case; values that are empty are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["case"]: {k: v for k, v in row.items() if v not in ("", None)} for row in csv.DictReader(file)}


def _paired_refusal(name: str, new: Sequence[Mapping], old: Sequence[Mapping], last: Entry) -> list[str]:
    from cphloc.metrics.bootstrap import paired_difference

    patients = [row.get("patient", row["case"]) for row in new]
    sign = -1.0 if lower_is_better(name) else 1.0
    values = [[sign * float(row[name]) for row in rows] for rows in (new, old)]
    gain = paired_difference(*values, groups=patients)
    if not (gain.high < 0 and gain.p_value < 0.05):
        return []
    text = f"{name} is significantly worse than that of {last}: by {-gain.value:.4f} on {gain.n} cases"
    return [f"{text} (p = {gain.p_value:.3g}); state why with --because to publish it all the same"]


def _apart_refusal(name: str, now: Metric, before: Metric, last: Entry) -> list[str]:
    if now.n == 0 or before.n == 0:
        return []
    worse = now.low > before.high if lower_is_better(name) else now.high < before.low
    if not worse:
        return []
    text = f"{name} {now.value:.4f} [{now.low:.4f}, {now.high:.4f}] lies below that of {last}, {before.value:.4f}"
    return [f"{text} [{before.low:.4f}, {before.high:.4f}]; state why with --because to publish it all the same"]


def _has_interval(metric: Any) -> bool:
    if not isinstance(metric, Mapping):
        return False
    stated = [metric.get(key) for key in ("value", "low", "high")]
    return is_undefined(metric) or all(isinstance(v, int | float) and math.isfinite(v) for v in stated)


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
