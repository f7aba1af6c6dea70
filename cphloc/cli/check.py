"""``cphloc check``: every problem of a recipe at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cphloc.cli.result import Answer, overrides, recipe_arguments
from cphloc.errors import InputError, Problem, RecipeError
from cphloc.zoo.starting import load_recipe


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe_arguments(parser, several=True)
    parser.add_argument(
        "--syntax", action="store_true", help="check only keys, types and ranges, without torch; not shapes and data"
    )


def run(options: argparse.Namespace) -> Answer:
    """Check every recipe; training starts from one that is ok. Advice does not change the exit code."""
    reports = {source: _report(source, options) for source in options.recipe}
    lines = [line for source, report in reports.items() for line in _lines(source, report)]
    facts = [
        {
            "recipe": source,
            "ok": not report.problems,
            "problems": [_facts(problem) for problem in report.problems],
            "unchecked": report.unchecked,
            "notes": report.notes,
            "advice": [_facts(advice) for advice in report.advice],
        }
        for source, report in reports.items()
    ]
    return Answer("\n".join(lines), facts, exit_code=2 if any(r.problems for r in reports.values()) else 0)


@dataclass(frozen=True)
class _Report:
    """What is wrong with a recipe, what could not be checked, and advice where nothing is wrong."""

    problems: Sequence[Problem | str] = ()
    unchecked: Sequence[str] = ()
    notes: Sequence[str] = ()
    advice: Sequence[Problem] = ()


def _report(source: str, options: argparse.Namespace) -> _Report:
    try:
        _require_plugins(source)
        loaded = load_recipe(source, overrides(options))
    except RecipeError as error:
        return _Report(error.problems)
    except InputError as error:
        return _Report([str(error)])
    if options.syntax:
        return _Report()
    from cphloc.modeling.advice import advice
    from cphloc.training.check import check

    found = check(loaded)
    return _Report(
        found.problems, found.unchecked, found.notes, [] if found.problems or loaded.stages else advice(loaded)
    )


def _require_plugins(source: str) -> None:
    """Raise `InputError` where the stored recipe of an entry uses a plug-in that is not installed."""
    from cphloc.zoo.names import ENTRY_FILE

    beside = Path(source).parent / ENTRY_FILE
    if Path(source).is_file() and beside.is_file():
        from cphloc.zoo.entry import Entry

        Entry.read(beside).require_plugins()


def _lines(source: str, report: _Report) -> list[str]:
    notes = [f"not checked: {what}" for what in report.unchecked]
    notes += [f"note: {note}" for note in (*report.notes, *report.advice)]
    return [*(map(str, report.problems) if report.problems else [f"{source}: ok"]), *notes]


def _facts(problem: Problem | str) -> dict[str, str]:
    return vars(problem) if isinstance(problem, Problem) else {"what": problem}
