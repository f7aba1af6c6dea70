"""``cphloc fill``: print a recipe with every default written out."""

from __future__ import annotations

import argparse
from pathlib import Path

from cphloc.cli.result import Answer, overrides, recipe_arguments
from cphloc.recipe.schema import schema_line
from cphloc.zoo.starting import load_recipe


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe_arguments(parser)
    path = (
        "schema to name in the first line; default: the installed one, relative to the folder of RECIPE if it is a file"
    )
    parser.add_argument("--schema", metavar="PATH", help=path)


def run(options: argparse.Namespace) -> Answer:
    """Print the complete recipe as YAML, or with ``--json`` as JSON."""
    loaded = load_recipe(options.recipe, overrides(options))
    file = Path(options.recipe)
    line = schema_line(file if file.is_file() else None, options.schema)
    return Answer(line + loaded.to_yaml(), loaded.to_plain())
