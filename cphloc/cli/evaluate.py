"""``cphloc evaluate``: measure a run or an entry, with 95 % intervals and a baseline."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cphloc.cli.result import UNDEFINED, Answer, number, table
from cphloc.errors import counted
from cphloc.metrics.recommended import NO_FROC_OF_MASKS
from cphloc.registry.metrics import is_signed
from cphloc.structures.options import OPTIONS, TRIAL_COLUMNS, trial_row
from cphloc.structures.split import SPLITS

if TYPE_CHECKING:
    from cphloc.evaluation.evaluate import Evaluation


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", metavar="ENTRY-or-RUN", help="an entry, or a run's id or folder")
    which = "which cases to measure on; default test, and of a cross-validation its out-of-fold predictions"
    parser.add_argument("--split", choices=SPLITS, help=which)
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        help="folder of the cases, laid out as the data set of the recipe, with a cases.csv that lists image and mask "
        "of each (see: cphloc data template), or with images and masks of the same names; default: as in the recipe",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="where to write table, curves and pictures; those of a run on its own data are written to its own folder",
    )
    parser.add_argument(
        "--choose",
        action="store_true",
        help="choose the options of a run's predictions again, on its validation cases, or of a cross-validation "
        "out of fold: those that the recipe lists; the first evaluation of its weights always does",
    )
    parser.add_argument(
        "--try",
        dest="tried",
        metavar="OPTION",
        action="append",
        choices=tuple(OPTIONS),
        help="choose again, of this option instead of those that the recipe lists; repeatable: " + ", ".join(OPTIONS),
    )
    parser.add_argument(
        "--by",
        metavar="COLUMN",
        action="append",
        default=[],
        help="metrics of each group of cases as well, such as site, scanner or sex: a column of the data set's table "
        "(cases.csv, there x-site as well), or size for thirds by the size of the annotated objects; repeatable",
    )
    parser.add_argument(
        "--explanations",
        action="store_true",
        help="measure the attention of a classifier as an explanation as well: pointing, mass in the region, deletion "
        "and insertion, beside Grad-CAM and occlusion of the same network and its map with random weights",
    )
    parser.add_argument(
        "--report", metavar="FILE.html", help="also write a page with metrics, groups and the ten worst cases, drawn"
    )


def run(options: argparse.Namespace) -> Answer:
    """Evaluate, and print one line per metric."""
    from cphloc.evaluation.evaluate import evaluate

    choose = options.tried or options.choose
    given = options.source, options.split, options.root, options.out, choose, options.by, options.report
    return answer(evaluate(*given, explanations=options.explanations))


def answer(measured: Evaluation) -> Answer:
    """Tabulate an evaluation, one line per metric."""
    facts = measured.facts
    head = (
        "metric",
        facts["split"].replace("_", " "),
        "95 % interval",
        "cases",
        "baseline",
        "model minus baseline",
        "p",
        *["with doubtful contours"] * ("doubtful" in facts),
    )
    rows = list(_rows(facts))
    lines = [table([head, *rows]), f"{facts['speed']['ms_per_case']:.0f} ms a case"]
    if any(row[1] == "-" for row in rows):
        lines.insert(1, UNDEFINED)
    if facts["patients"] == 1:
        lines.insert(0, "all cases are of one patient, so no interval can be stated")
    lines += [_fold(part) for part in facts.get("folds", [])]
    lines += list(_stages(facts))
    lines += list(_explanation(facts.get("explanation")))
    lines += [*_reasons(facts), *_sensitivities(facts), *_groups(facts), *_options(facts.get("options"))]
    if measured.table is not None:
        pictures = "" if "folds" in facts else ", pictures beside it"
        lines.append(f"one row a case in {measured.table}{pictures}")
    return Answer("\n".join(lines), facts)


def _stages(facts: Mapping[str, Any]) -> Iterator[str]:
    """Errors of the stages of a pipeline: of each crop, and of the last stage in the found and in the true crop."""
    for name, of in facts.get("stages", {}).items():
        yield f"stage {name} ({of['entry']}) ran on {of['ran']} of {counted(of['cases'], 'case')}"
        if of["crop"]:
            yield "  its crop: " + ", ".join(f"{metric} {_value(found)}" for metric, found in of["crop"].items())
    if (oracle := facts.get("oracle")) is not None:
        rows = [(name, _value(facts["metrics"].get(name)), _value(of)) for name, of in oracle["metrics"].items()]
        yield table([("last stage", "as it runs", "in the true crop"), *rows])


def _explanation(found: Mapping[str, Any] | None) -> Iterator[str]:
    """Compare the attention as an explanation with other maps of the same network."""
    if found is not None:
        names = list(next(iter(found["methods"].values())))
        yield f"attention as an explanation, {counted(found['cases'], 'case')} with an object:"
        rows = [(method, *(_value(of[name]) for name in names)) for method, of in found["methods"].items()]
        yield table([("map", *names), *rows])
        yield f"rank correlation with the map of random weights: {_value(found['similarity_to_random'])}"


def _fold(part: Mapping[str, Any]) -> str:
    """Describe a fold: its cases and patients, and the headline metric on them."""
    (name, value), *_ = part["metrics"].items()
    cases = f"{counted(part['cases'], 'case')} of {counted(part['patients'], 'patient')}"
    return f"fold {part['fold']}: {cases}, {name} {number(value, '.3f')}"


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    nothing: dict[str, Any] = {"metrics": {}, "per_class": {}}
    baseline, paired = facts["baseline"] or nothing, facts["paired"] or nothing
    parts = [("", facts["metrics"], baseline["metrics"], paired["metrics"])]
    for name, metrics in facts["per_class"].items():
        parts.append((f"/{name}", metrics, baseline["per_class"].get(name, {}), paired["per_class"].get(name, {})))
    for class_name, metrics, baselines, gains in parts:
        for name, found in metrics.items():
            beside = number(baselines[name]["value"], ".3f") if name in baselines else "-"
            value = number(found["value"], ".3f")
            row = f"{name}{class_name}", value, _span(found), str(found["n"]), beside, *_gain(name, gains.get(name))
            yield (*row, *_with_doubtful(facts, name, class_name.removeprefix("/")))


def _with_doubtful(facts: Mapping[str, Any], name: str, class_name: str) -> list[str]:
    """Value of a metric with doubtful annotations, of a class or, without its name, of all; empty without any."""
    if (found := facts.get("doubtful")) is None:
        return []
    metrics = found["per_class"].get(class_name, {}) if class_name else found["metrics"]
    return [_value(metrics.get(name))]


def _reasons(facts: Mapping[str, Any]) -> list[str]:
    """What to judge the model by, and why."""
    return ["judge it by:", *(f"  {name}: {why}" for name, why in facts["recommended"].items())]


def _sensitivities(facts: Mapping[str, Any]) -> list[str]:
    """Sensitivity of the boxes at each rate of false positives."""
    found = facts["sensitivity_at_fp"]
    rows = [(rate, number(at["value"], ".3f"), _span(at)) for rate, at in found.items()]
    if not rows and "lesion_sensitivity" in facts["metrics"]:
        return [f"sensitivity at 1/8 to 8 false positives: {NO_FROC_OF_MASKS}"]
    return [table([("false positives per image", "sensitivity", "95 % interval"), *rows])] if rows else []


def _groups(facts: Mapping[str, Any]) -> Iterator[str]:
    """One table per column, with a row per group."""
    names = list(facts["recommended"])
    for column, groups in facts["by"].items():
        rows = [
            (group, str(of["cases"]), str(of["patients"]), *(_value(of["metrics"].get(name)) for name in names))
            for group, of in groups.items()
        ]
        yield table([(column, "cases", "patients", *names), *rows])


def _value(found: Mapping[str, Any] | None) -> str:
    """Value of a metric with its interval."""
    if found is None or found["value"] is None:
        return "-"
    return number(found["value"], ".3f") + ("" if found["low"] is None else f" [{_span(found)}]")


def _options(chosen: Mapping[str, Any] | None) -> list[str]:
    """Table of the options that were tried, and what is applied."""
    if chosen is None or not chosen["trials"]:
        return []
    where = "out of fold" if chosen["split"] == "out-of-fold" else f"on the {chosen['split']} split"
    title = f"options chosen {where}, {counted(chosen['cases'], 'case')} of {counted(chosen['patients'], 'patient')}:"
    return [title, table([TRIAL_COLUMNS, *map(trial_row, chosen["trials"])])]


def _gain(metric: str, gain: Mapping[str, Any] | None) -> tuple[str, str]:
    """Paired difference with its interval, and its p-value, where it has one; of signed errors that of their sizes."""
    if gain is None or gain["value"] is None:
        return "-", "-"
    span = "" if gain["low"] is None else f" [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    of = "|error| " if is_signed(metric) else ""
    return f"{of}{gain['value']:+.3f}{span}", "-" if gain["p_value"] is None else f"{gain['p_value']:.3g}"


def _span(found: Mapping[str, Any]) -> str:
    """Interval of a metric, or why there is none."""
    if found["low"] is None:
        return "-" if found["value"] is None else "none (one patient)"
    return f"{found['low']:.3f} to {found['high']:.3f}"
