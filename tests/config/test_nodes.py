from __future__ import annotations

import pytest

from cphloc.config.nodes import dotted, from_plain
from cphloc.errors import RecipeError
from cphloc.recipe.merge import parse_path


@pytest.mark.parametrize("path", [("a",), ("data", "augment", 0, "type"), ("a", 1, 2), ("model", "heads", "mask")])
def test_a_dotted_path_parses_back(path):
    assert parse_path(dotted(path)) == path


def test_plain_data_keeps_its_values_and_names_its_source():
    root = from_plain({"a": (1, 2), "b": {"c": None}}, "--set x=1")
    assert root.plain == {"a": [1, 2], "b": {"c": None}}
    assert str(root.get(("b", "c")).where) == "--set x=1"
    assert root.get(("b", "d", "e")) is None


@pytest.mark.parametrize("value", [{"a": object()}, {"a": {1.5: 2}}, {"a": b"bytes"}, {"a": {True: 1}}])
def test_what_yaml_has_no_form_for_is_refused(value):
    with pytest.raises(RecipeError, match="recipe: a"):
        from_plain(value, "recipe")


def test_endless_data_is_refused():
    endless: list = []
    endless.append(endless)
    with pytest.raises(RecipeError, match="nested deeper"):
        from_plain({"a": endless}, "recipe")
