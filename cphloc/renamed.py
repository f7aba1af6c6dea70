"""Keep a call under its former name for one minor version, with a warning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def renamed(to: str, since: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorator of a function that only calls another, under the name that this had before.

    The test suite fails when the next minor version after ``since`` is reached: then the function goes.

    Args:
        to: the new name.
        since: first version that has the new name, ``0.2.0``.

    Returns:
        a decorator; the function warns (`FutureWarning`) at each call.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """Return a function that warns, then calls ``function``."""
        text = f"{function.__qualname__} is named {to} since cphloc {since}; the old name goes with {gone_with(since)}"

        @functools.wraps(function)
        def call(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
            """Warn, then call the function."""
            warnings.warn(text, FutureWarning, stacklevel=2)
            return function(*arguments, **options)

        return call

    return decorate


def gone_with(since: str) -> str:
    """Return the version from which on a former name does not exist any more.

    >>> gone_with("0.2.0")
    '0.3.0'
    """
    major, minor, *_ = since.split(".")
    return f"{major}.{int(minor) + 1}.0"
