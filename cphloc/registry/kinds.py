"""The kinds of things that a recipe can name, and how messages speak of them."""

from __future__ import annotations

from collections.abc import Iterable

KINDS = ("backbone", "neck", "head", "loss", "dataset")
"""Kinds of components, one folder each."""

TABLES = ("optimizer", "schedule", "intensity", "transform", "measure")
"""Kinds of allow-listed names, one file each."""


def plural(kind: str) -> str:
    """Several of a kind.

    >>> plural("loss"), plural("intensity")
    ('losses', 'intensities')
    """
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}es" if kind.endswith("s") else f"{kind}s"


def some(names: Iterable[str], most: int = 12) -> str:
    """The first names, separated by commas."""
    names = list(names)
    shown = ", ".join(names[:most])
    return f"{shown}, ..." if len(names) > most else shown or "none"


def article(word: str) -> str:
    """``a`` or ``an``."""
    return "an" if word[0] in "aeiou" else "a"
