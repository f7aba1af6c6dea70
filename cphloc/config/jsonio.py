"""Write and read JSON as RFC 8259 defines it: undefined numbers are ``null``, never ``NaN`` or ``Infinity``.

Every JSON file of cphloc, and every answer to ``--json``, is written by `dumps`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(value: Any, **options: Any) -> str:
    """Convert a value to JSON text, with ``null`` for NaN and infinite numbers.

    Args:
        value: of dicts, lists, tuples, text, numbers (NumPy's too), booleans and ``None``.
        options: arguments of `json.dumps`, such as ``indent``.

    >>> dumps({"dice": float("nan"), "cases": (1, 2)})
    '{"dice": null, "cases": [1, 2]}'
    """
    return json.dumps(plain(value), allow_nan=False, **options)


def plain(value: Any) -> Any:
    """Return a copy of a value as JSON has it: ``None`` for undefined numbers, lists for tuples.

    >>> plain([1.5, float("inf"), {"low": float("nan")}])
    [1.5, None, {'low': None}]
    """
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # of NumPy, which this module does not import
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def number(value: float | None) -> float:
    """Return a number that was read from JSON, NaN for ``null``.

    >>> number(None), number(2.0)
    (nan, 2.0)
    """
    return math.nan if value is None else value
