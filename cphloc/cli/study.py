"""``cphloc study``: run a declared set of recipes x seeds: one table, one figure, one verdict."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cphloc.cli.result import Answer, overrides, table
from cphloc.errors import InputError, RecipeError, counted

if TYPE_CHECKING:
    from cphloc.studies.study import Study


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("study", metavar="STUDY", nargs="?", help="a YAML file, or the name of a shipped study")
    what = "override a value of the study, or of all its recipes, such as train.steps=100; repeatable"
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=what)
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder for runs and results; default studies/<name>; a study that was interrupted is resumed",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="train in this process (local, the default) or on a Ray cluster",
    )
    parser.add_argument(
        "--check", action="store_true", help="only check the study, its recipes and its measures; train nothing"
    )
    what = "write the summary page of the studies declared in FOLDER, from the results in --out"
    parser.add_argument("--page", metavar="FOLDER", help=what)


def run(options: argparse.Namespace) -> Answer:
    """Run the study, or check it, or write the page of several."""
    if options.page is not None:
        return _page(options)
    if options.study is None:
        msg = "name a study: a YAML file, or a shipped one such as e00-shifted-object; cphloc list studies"
        raise InputError(msg)
    from cphloc.studies.study import load

    if options.check:
        return _checked(load(options.study, overrides(options)))
    from cphloc.studies.run import study

    results, folder = study(options.study, overrides(options), out=options.out, engine=options.engine)
    facts = results.facts()
    return Answer("\n".join([*_lines(facts), "", f"figure, numbers and runs in {folder}"]), facts)


def _checked(study: Study) -> Answer:
    """List how many runs a valid study has, and in what its arms differ beyond what they state or in their budget."""
    from cphloc.studies.check import check
    from cphloc.studies.confounds import confounds

    if problems := check(study):
        raise RecipeError(problems)
    runs, found = len(study.cells) * len(study.seeds), confounds(study)
    open_ = [one for one in found if not one.reason]
    lines = [f"{study.name}: ok, {counted(runs, 'run')}"]
    if open_:
        what = "the arms also differ in what none of them states, or in their budget"
        lines.append(f"{what}; make it equal, or give the reason in 'confounds':")
    lines += [f"  {one}" for one in open_]
    lines += [f"  {one}; accepted: {one.reason}" for one in found if one.reason]
    return Answer("\n".join(lines), {"study": study.name, "ok": True, "runs": runs, "confounds": [*map(asdict, found)]})


def _page(options: argparse.Namespace) -> Answer:
    from cphloc.studies.page import write_page

    page, told = write_page(options.page, options.out)
    return Answer(f"{told['studies']} studies, {told['run']} with results: {page}", {"page": str(page), **told})


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    from cphloc.studies.confounds import Confound
    from cphloc.studies.results import condition_text

    yield f"{facts['study']}: {facts['claim']}"
    yield ""
    yield table([("", *facts["metrics"]), *(_row(row, facts["metrics"]) for row in facts["rows"])])
    if facts["differences"]:
        yield ""
        yield table([("difference, paired by seed", "metric", "", ""), *map(_difference, facts["differences"])])
    if facts["conditions"]:
        yield ""
        yield table(("  " + condition_text(c), c["verdict"]) for c in facts["conditions"])
    for arm in facts["not_learned"]:
        yield f"  {arm} did not learn above its baseline; conditions on it are undecided"
    for found in facts["confounds"]:
        yield f"  the arms also differ in {Confound(**found)}"
    yield ""
    yield f"verdict: {facts['verdict'] or 'none'} ({len(facts['seeds'])} seeds, {facts['cpu_seconds']:.0f} CPU seconds)"


def _row(row: Mapping[str, Any], metrics: list[str]) -> tuple[str, ...]:
    title = row["row"] if row["at"] is None else f"{row['row']} @ {row['at']}"
    return (title or "all", *(_interval(row["metrics"].get(metric)) for metric in metrics))


def _difference(found: Mapping[str, Any]) -> tuple[str, ...]:
    what = f"{found['first']} - {found['second']}" + ("" if found["at"] is None else f" @ {found['at']}")
    return what, found["metric"], _interval(found, sign="+"), f"p = {found['p_value']:.2g}" if found["p_value"] else ""


def _interval(found: Mapping[str, Any] | None, sign: str = "") -> str:
    from cphloc.studies.results import limits_text

    if found is not None and found.get("n_censored"):
        return limits_text(found, sign)
    if found is None or found["value"] is None:
        return "-"
    if found["low"] is None:
        return f"{found['value']:{sign}.3f}"
    return f"{found['value']:{sign}.3f} ({found['low']:{sign}.3f} to {found['high']:{sign}.3f})"
