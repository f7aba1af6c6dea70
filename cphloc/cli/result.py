"""One file a command: ``cphloc train`` is ``commands/train.py``.

A command has a docstring, whose first line is its help, ``arguments(parser)`` and ``run(options) -> Answer``. Heavy
imports belong inside ``run``, so that the command line stays quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Args:
        text: for people.
        facts: the same for programs, as ``--json`` prints it; ``None`` where there is nothing to say.
        exit_code: 0 done, 1 failed, 2 wrong input.
    """

    text: str
    facts: Any
    exit_code: int = 0


def table(rows: Iterable[Sequence[Any]]) -> str:
    """Align columns; the last one is as long as it is.

    >>> print(table([("fpn", "feature pyramid"), ("bifpn", "both ways")]))
    fpn    feature pyramid
    bifpn  both ways
    """
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    return "\n".join(
        "  ".join([*(f"{cell:{width}}" for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in rows
    )


def recipe_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Declare ``RECIPE`` and ``--set``, which every command about recipes has."""
    what = "a YAML file, or the name of a shipped recipe"
    parser.add_argument("recipe", metavar="RECIPE", help=what, nargs="+" if several else None)
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override a value; repeatable")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Values of ``--set`` by dotted key."""
    from cphloc.recipe.merge import set_argument

    return dict(map(set_argument, options.set))
