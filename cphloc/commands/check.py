"""``cphloc check``: every problem of a recipe at once."""

from __future__ import annotations

import argparse

from cphloc import recipe
from cphloc.commands import Answer, overrides, recipe_arguments
from cphloc.errors import InputError, Problem, RecipeError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe_arguments(parser, several=True)
    parser.add_argument("--syntax", action="store_true", help="leave out shapes, which need torch")


def run(options: argparse.Namespace) -> Answer:
    """Check every recipe; shapes on the meta device, once the rest is right."""
    reports = {source: _problems(source, options) for source in options.recipe}
    lines = [line for source, found in reports.items() for line in (map(str, found) if found else [f"{source}: ok"])]
    facts = [{"recipe": s, "ok": not found, "problems": [_facts(p) for p in found]} for s, found in reports.items()]
    return Answer("\n".join(lines), facts, exit_code=2 if any(reports.values()) else 0)


def _problems(source: str, options: argparse.Namespace) -> list[Problem | str]:
    try:
        loaded = recipe.load(source, overrides(options))
    except RecipeError as error:
        return list(error.problems)
    except InputError as error:
        return [str(error)]
    if options.syntax:
        return []
    from cphloc.wiring import check

    return list(check(loaded))


def _facts(problem: Problem | str) -> dict[str, str]:
    return vars(problem) if isinstance(problem, Problem) else {"what": problem}
