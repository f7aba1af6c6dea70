"""Open the data set that a recipe names."""

from __future__ import annotations

import re
from typing import Any

from cphloc.errors import InputError
from cphloc.recipe.recipe import Data
from cphloc.registry import catalogue
from cphloc.registry.contract import construct


def make_dataset(data: Data, dims: int) -> Any:
    """Instantiate the data set of a recipe's ``data`` section; no image is read.

    Args:
        data: the ``data`` section.
        dims: number of spatial axes of the recipe, 2 or 3.

    Raises:
        NotFoundError: the files of the data set do not exist.
        InputError: the data set takes no ``root``, has other channels, or has images with other ``dims``; or
            ``patient`` is not a regular expression.
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
        return re.compile(pattern)
    except re.error as error:
        msg = f"data.patient: '{pattern}' is not a regular expression ({error}); correct it"
        raise InputError(msg) from None
