"""Open the data set that a recipe names."""

from __future__ import annotations

import re
from typing import Any

from cphloc.errors import InputError
from cphloc.recipe.fields import Data
from cphloc.registry import catalogue
from cphloc.registry.contract import construct

MOST_REPEATS, MOST_CHOICES = 3, 12
"""Largest numbers of repeats and choices in a pattern for patients, which bound the time that a name takes."""

_NESTED = re.compile(r"\)[*+{]|\\[1-9]|\(\?P=|\(\?[a-zA-Z]*x")


def make_dataset(data: Data, dims: int) -> Any:
    """Instantiate the data set of a recipe's ``data`` section; no image is read.

    Args:
        data: the ``data`` section.
        dims: number of spatial axes of the recipe, 2 or 3.

    Raises:
        NotFoundError: the files of the data set do not exist.
        InputError: the data set takes no ``root``, has other channels, or has images with other ``dims``; or
            ``patient`` is not a regular expression, or one that can backtrack without end.
    """
    arguments = dict(data.args)
    known = {a.name for a in catalogue.arguments(catalogue.card("dataset", data.type))}
    if data.root is not None and "root" not in known:
        msg = f"data set '{data.type}' takes no root; remove data.root"
        raise InputError(msg)
    given = {"root": data.root, "channels": data.channels}
    arguments |= {name: value for name, value in given.items() if value is not None and name in known}
    dataset = construct("dataset", data.type, arguments, dims=dims)
    if data.patient is not None:
        dataset.patient = _compiled(data.patient)
    if dataset.dims != dims:
        msg = f"data set '{data.type}' is {dataset.dims}-D but the recipe says dims: {dims}; change one of them"
        raise InputError(msg)
    if data.channels is not None and tuple(data.channels) != tuple(dataset.channels):
        msg = f"data set '{data.type}' always has the channels {list(dataset.channels)}; remove data.channels"
        raise InputError(msg)
    return dataset


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        msg = f"data.patient: '{pattern}' is not a regular expression ({error}); correct it"
        raise InputError(msg) from None
    repeats, choices = len(re.findall(r"[*+{]", pattern)), len(re.findall(r"[?|]", pattern))
    if repeats > MOST_REPEATS or choices > MOST_CHOICES or _NESTED.search(pattern):
        msg = (
            f"data.patient: '{pattern[:100]}' could take forever to match; use at most {MOST_REPEATS} of '*', '+' and "
            f"'{{', {MOST_CHOICES} of '?' and '|', no repeated group, back-reference or flag x"
        )
        raise InputError(msg)
    return compiled
