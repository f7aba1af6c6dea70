"""Exceptions of cphloc, and suggestions for misspelled names.

Every message states where the error is, what is wrong, and what to do. The command line prints only the message and
exits with ``exit_code``; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class CphlocError(Exception):
    """Base class of all errors of cphloc; raised itself for errors not caused by input, such as a full disk."""

    exit_code = 1


class InputError(CphlocError, ValueError):
    """Invalid input of the user: a recipe, file, name or argument."""

    exit_code = 2


class DataError(InputError):
    """Invalid image, annotation or data set; the message contains the file name."""


class NotFoundError(InputError):
    """Name or file that does not exist."""


class MissingExtraError(InputError):
    """Optional package that is needed but not installed.

    Args:
        what: what needs the package, for the message.
        extra: extra of cphloc that installs it, such as ``ray``.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'cphloc[{extra}]'")


@dataclass(frozen=True)
class Problem:
    """One error in a recipe or card.

    Args:
        where: its position as ``file:line:col``, or ``--set key=value``.
        path: dotted key, such as ``train.steps``.
        what: what is wrong.
        fix: what to do.
    """

    where: str
    path: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.path}: {self.what}; {self.fix}"


class RecipeError(InputError):
    """Invalid recipe or card, with all its errors; the message has one line for each.

    Args:
        problems: the errors.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the candidate most similar to ``name``; an empty string if none is similar.

    >>> did_you_mean("dice_cd", ["dice_ce", "focal"])
    "did you mean 'dice_ce'?"
    >>> did_you_mean("qqq", ["dice_ce"])
    ''
    """
    by_folded = {c.casefold().replace("-", "_"): c for c in candidates}
    folded = str(name).casefold().replace("-", "_")
    near = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    return f"did you mean '{by_folded[near[0]]}'?" if near else ""
