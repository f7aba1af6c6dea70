"""JSON that every program reads: no bare NaN or Infinity, whatever holds them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cphloc.config import jsonio


def strict(text):
    """Parse as RFC 8259 has it, in which NaN and Infinity are no numbers."""
    return json.loads(text, parse_constant=pytest.fail)


def test_undefined_numbers_are_null():
    value = {
        "a": float("nan"),
        "b": [1, np.float32("inf"), (2.5, -float("inf"))],
        "c": np.array([1.0, np.nan]),
        3: "NaN",
    }
    found = strict(jsonio.dumps(value))
    assert found == {"a": None, "b": [1, None, [2.5, None]], "c": [1.0, None], "3": "NaN"}


def test_what_is_no_json_is_refused():
    with pytest.raises(TypeError):
        jsonio.dumps({"a": object()})
