"""What the files of commands share: the answer that a command returns, tables, and options of several commands.

The file of ``cphloc NAME`` is ``cphloc/cli/NAME.py``, with ``arguments(parser)`` and ``run(options) -> Answer``; its
summary stands in `cphloc.cli.commands`. Heavy imports belong inside ``run``, so that the command line starts quickly.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cphloc.errors import one_line


@dataclass(frozen=True)
class Answer:
    """The result of a command.

    Args:
        text: printed without ``--json``.
        facts: plain data that ``--json`` prints; where it is ``None``, ``text`` is printed.
        exit_code: 0 done, 1 failed, 2 wrong input.
    """

    text: str
    facts: Any
    exit_code: int = 0


def table(rows: Iterable[Sequence[Any]]) -> str:
    """Format rows as text with aligned columns; the last column is not padded.

    >>> print(table([("fpn", "feature pyramid"), ("bifpn", "both ways")]))
    fpn    feature pyramid
    bifpn  both ways
    """
    rows = [[one_line(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    return "\n".join(
        "  ".join([*(f"{cell:{width}}" for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in rows
    )


UNDEFINED = "-: no case of the split defines it, as without a positive case"
"""Line below a table of metrics in which some are undefined."""


def number(value: float | None, form: str) -> str:
    """Format a metric; ``-`` where it is undefined.

    >>> number(0.5, ".3f"), number(float("nan"), ".3f"), number(None, ".3f")
    ('0.500', '-', '-')
    """
    return "-" if value is None or math.isnan(value) else format(value, form)


def comma_separated(text: str) -> tuple[float, ...]:
    """Parse the value of an option that holds numbers separated by commas.

    >>> comma_separated("3,1.5,1")
    (3.0, 1.5, 1.0)
    """
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        msg = f"'{text}' is not a list of numbers; separate them by commas, such as 3,1,1"
        raise argparse.ArgumentTypeError(msg) from None


SET_HELP = "override a value of the recipe, such as train.steps=100; repeatable"
"""Help of ``--set``, which replaces values of a recipe."""


def recipe_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Declare ``RECIPE`` and ``--set``, the options of every command about recipes."""
    what = "a YAML file, or the name of a shipped recipe"
    parser.add_argument("recipe", metavar="RECIPE", help=what, nargs="+" if several else None)
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=SET_HELP)


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Parse the ``--set`` options into values by dotted key."""
    from cphloc.recipe.merge import set_argument

    return dict(map(set_argument, options.set))
