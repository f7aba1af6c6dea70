"""``cphloc check``: every problem of a recipe at once."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer, overrides, recipe_arguments
from cphloc.errors import InputError, Problem, RecipeError
from cphloc.recipe import recipe


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe_arguments(parser, several=True)
    parser.add_argument("--syntax", action="store_true", help="leave out shapes, which need torch")


def run(options: argparse.Namespace) -> Answer:
    """Check every recipe; shapes on the meta device, once the rest is right. Advice does not make a recipe wrong."""
    reports = {source: _report(source, options) for source in options.recipe}
    lines = [line for source, report in reports.items() for line in _lines(source, *report)]
    facts = [
        {"recipe": s, "ok": not found, "problems": [_facts(p) for p in found], "advice": [_facts(a) for a in advised]}
        for s, (found, advised) in reports.items()
    ]
    return Answer("\n".join(lines), facts, exit_code=2 if any(found for found, _ in reports.values()) else 0)


def _report(source: str, options: argparse.Namespace) -> tuple[list[Problem | str], list[Problem]]:
    """Problems, and advice where there is none."""
    try:
        loaded = recipe.load(source, overrides(options))
    except RecipeError as error:
        return list(error.problems), []
    except InputError as error:
        return [str(error)], []
    if options.syntax:
        return [], []
    from cphloc.modeling.advice import advice
    from cphloc.modeling.build import check

    found = list(check(loaded))
    return found, [] if found else advice(loaded)


def _lines(source: str, found: list[Problem | str], advised: list[Problem]) -> list[str]:
    return [*map(str, found)] if found else [f"{source}: ok", *(f"note: {advice}" for advice in advised)]


def _facts(problem: Problem | str) -> dict[str, str]:
    return vars(problem) if isinstance(problem, Problem) else {"what": problem}
