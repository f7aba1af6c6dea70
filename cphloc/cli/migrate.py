"""``cphloc migrate``: rewrite a recipe that uses old names, keeping its comments."""

from __future__ import annotations

import argparse
from pathlib import Path

from cphloc.cli.result import Answer
from cphloc.recipe.migrate import migrate


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recipe", metavar="RECIPE", nargs="+", type=Path, help="a YAML file; it is rewritten in place")


def run(options: argparse.Namespace) -> Answer:
    """Rewrite each file and list what was renamed."""
    found = [renaming for path in options.recipe for renaming in migrate(path)]
    lines = [f"{r.where}: {r.path}: '{r.old}' is now '{r.new}'" for r in found]
    facts = [{"where": str(r.where), "path": r.path, "old": r.old, "new": r.new} for r in found]
    return Answer("\n".join(lines) or "nothing to rename", facts)
