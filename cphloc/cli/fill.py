"""``cphloc fill``: print a recipe with every default written out."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer, overrides, recipe_arguments
from cphloc.recipe import recipe


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe_arguments(parser)


def run(options: argparse.Namespace) -> Answer:
    """Print the complete recipe as YAML, or with ``--json`` as JSON."""
    loaded = recipe.load(options.recipe, overrides(options))
    return Answer(loaded.to_yaml(), loaded.to_plain())
