"""``cphloc explain``: show each value of a recipe, where it comes from, and which metrics to judge the model by."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from cphloc.cli.result import Answer, overrides, recipe_arguments, table
from cphloc.config.nodes import dotted
from cphloc.config.yamlio import inline
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue
from cphloc.zoo.starting import load_recipe

WIDEST = 60
"""Longest value in the table, in characters; the JSON output is not shortened."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe_arguments(parser)


def run(options: argparse.Namespace) -> Answer:
    """List every value, in the order of the complete recipe, with the file and line that set it.

    Of what a stage of a pipeline holds of its entry, only the name is listed; the entry's own recipe has the rest.
    """
    loaded = load_recipe(options.recipe, overrides(options))
    facts = [
        {"path": dotted(path), "value": node.plain, "origin": str(node.where)}
        for path, node in loaded.tree.leaves()
        if not _of_entry(path)
    ]
    values = table((f["path"], _shortened(inline(f["value"])), f["origin"]) for f in facts)
    return Answer("\n".join([values, *_metrics(loaded)]), facts)


def _of_entry(path: tuple[str | int, ...]) -> bool:
    """Whether a value is one that a stage of a pipeline holds of its entry."""
    return path[:1] == ("stages",) and path[2:3] == ("stored",) and path[3:] != ("entry",)


def _metrics(recipe: Recipe) -> Iterator[str]:
    """Which metrics fit the answers of the model, and why."""
    from cphloc.metrics.recommended import kinds_of, reasons

    tolerances, recipe = recipe.nsd_tolerance_mm, recipe.last
    gives = {word for head in recipe.model.heads.values() for word in catalogue.card("head", head.type).gives}
    for kind in kinds_of(gives):
        rows = reasons(kind, tolerances).items()
        yield f"\njudge {kind} by\n{table((f'  {name}', why) for name, why in rows)}"


def _shortened(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."
