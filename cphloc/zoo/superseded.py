"""Versions that another version of the zoo supersedes, such as the same model under a better name.

A published version never changes, so the newer one states what it supersedes. The index of the zoo is what is searched:
in a zoo folder without one, no version counts as superseded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from cphloc.zoo.index import Row


def successors(rows: Iterable[Row]) -> dict[str, str]:
    """Map each superseded version to the one that supersedes it, both as ``name@1.2.0``.

    Args:
        rows: of every version of the zoo.
    """
    return {old: f"{row.name}@{row.version}" for row in rows for old in row.supersedes}


def warn_of_superseded(version: str, by: str) -> None:
    """Warn that a version that was found is superseded, unless ``by`` is empty."""
    if by:
        text = f"{version} is superseded by {by}: cphloc show {by} says why; {version} itself stays as it is"
        warnings.warn(text, stacklevel=4)
