"""The errors cphloc raises, and the sentence that suggests the name someone meant.

Every message says where, what, and what to do. The command line prints the message alone and ends with
``exit_code``; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class CphlocError(Exception):
    """Something went wrong that is not the input's fault: a full disk, a failed training."""

    exit_code = 1


class InputError(CphlocError, ValueError):
    """What the user gave is wrong: a recipe, a file, a name, an argument."""

    exit_code = 2


class DataError(InputError):
    """An image, annotation or data set cannot be used as it is; the message names the file."""


class NotFoundError(InputError):
    """A name or a file does not exist."""


class MissingExtraError(InputError):
    """A component needs an optional package that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install 'cphloc[{extra}]'")


@dataclass(frozen=True)
class Problem:
    """One mistake in a recipe or card: where it stands, what is wrong, what to do.

    ``where`` is ``file:line:col`` (or ``--set key=value``), ``path`` the dotted key.
    """

    where: str
    path: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.path}: {self.what}; {self.fix}"


class RecipeError(InputError):
    """A recipe or card has problems; all of them are in ``problems`` and in the message, one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the candidate nearest to ``name``, or an empty string.

    >>> did_you_mean("dice_cd", ["dice_ce", "focal"])
    "did you mean 'dice_ce'?"
    >>> did_you_mean("qqq", ["dice_ce"])
    ''
    """
    by_folded = {c.casefold().replace("-", "_"): c for c in candidates}
    folded = str(name).casefold().replace("-", "_")
    near = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    return f"did you mean '{by_folded[near[0]]}'?" if near else ""
