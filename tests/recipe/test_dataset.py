"""Opening the data set of a recipe: patterns of a stranger must not backtrack without end."""

from __future__ import annotations

import pytest

from cphloc.data.planning.patients import PATTERNS
from cphloc.errors import InputError
from cphloc.recipe.dataset import _compiled


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*$",
        "(?x)(a+) +$",
        r"(a*)\1b",
        "(?P<p>a*)(?P=p)b",
        "(.*)(.*)(.*)(.*)x",
        "(" + "a?" * 40 + ")" + "a" * 40,
        "(a{0,99}){9}b",
        "(" * 5000,
    ],
)
def test_a_pattern_that_could_take_forever_is_refused_in_one_line(pattern: str):
    with pytest.raises(InputError, match=r"data\.patient: ") as caught:
        _compiled(pattern)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pattern", [*PATTERNS, r"(\w+)_\d+_.*", "(sub-[0-9]{3})", "(a|b)x?"])
def test_patterns_of_plans_and_people_are_taken(pattern: str):
    assert _compiled(pattern).pattern == pattern
