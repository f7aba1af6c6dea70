"""``cphloc explain``: show each value of a recipe and where it comes from."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer, overrides, recipe_arguments, table
from cphloc.config.nodes import dotted
from cphloc.config.yamlio import inline
from cphloc.zoo.starting import load_recipe

WIDEST = 60
"""Longest value in the table, in characters; the JSON output is not shortened."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe_arguments(parser)


def run(options: argparse.Namespace) -> Answer:
    """List every value, in the order of the complete recipe, with the file and line that set it."""
    loaded = load_recipe(options.recipe, overrides(options))
    facts = [
        {"path": dotted(path), "value": node.plain, "origin": str(node.where)} for path, node in loaded.tree.leaves()
    ]
    return Answer(table((f["path"], _shortened(inline(f["value"])), f["origin"]) for f in facts), facts)


def _shortened(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."
