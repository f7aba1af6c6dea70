"""``cphloc schema``: print the JSON Schema of recipes, for editors."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer
from cphloc.config import jsonio
from cphloc.recipe.schema_cache import cached_schema


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "cphloc schema > recipe.schema.json; then start a recipe with the line "
        "'# yaml-language-server: $schema=recipe.schema.json'"
    )


def run(options: argparse.Namespace) -> Answer:
    """Print the schema."""
    schema = cached_schema()
    return Answer(jsonio.dumps(schema, indent=0), schema)
