"""``cphloc diff``: show the values in which two recipes differ, defaults included."""

from __future__ import annotations

import argparse
from typing import Any

from cphloc.cli.result import Answer, table
from cphloc.config.nodes import dotted
from cphloc.config.yamlio import inline
from cphloc.zoo.starting import load_recipe

_ABSENT: Any = object()


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("a", metavar="A", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument("b", metavar="B", help="the recipe to compare it with, likewise")


def run(options: argparse.Namespace) -> Answer:
    """List the values that differ, and those that only one recipe has."""
    a, b = (_values(source) for source in (options.a, options.b))
    facts = [
        {"path": path} | {side: values[path] for side, values in (("a", a), ("b", b)) if path in values}
        for path in dict.fromkeys((*a, *b))
        if path != "name" and a.get(path, _ABSENT) != b.get(path, _ABSENT)
    ]
    rows = [(f["path"], _shown(f, "a"), _shown(f, "b")) for f in facts]
    return Answer(table([("", options.a, options.b), *rows]) if rows else "no difference", facts)


def _values(source: str) -> dict[str, Any]:
    return {dotted(path): node.plain for path, node in load_recipe(source).tree.leaves()}


def _shown(fact: dict[str, Any], side: str) -> str:
    return inline(fact[side]) if side in fact else "-"
