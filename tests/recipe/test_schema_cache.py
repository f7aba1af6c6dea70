from __future__ import annotations

import json

import pytest

from cphloc.recipe import schema
from cphloc.recipe.schema_cache import cached_schema

CARD = "import: {package}.part:Part\nsummary: A loss of a plug-in\ntakes: mask\n"
PART = "class Part:\n    def __init__(self, {arguments}) -> None: ...\n"


@pytest.fixture
def made(monkeypatch, tmp_path):
    """The number of times the schema was made, with an empty cache."""
    calls = []
    original = schema.recipe_schema
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(schema, "recipe_schema", lambda: calls.append(1) or original())
    return calls


def test_the_schema_is_made_once_and_equals_the_one_made_anew(made):
    first, second = cached_schema(), cached_schema()
    assert len(made) == 1
    assert first == second == json.loads(json.dumps(schema.recipe_schema()))
    assert json.dumps(second) == json.dumps(schema.recipe_schema()), "in the same order"


def test_a_changed_card_or_signature_of_a_plugin_makes_it_anew(made, monkeypatch, tmp_path):
    package, card = tmp_path / "plugged_in", tmp_path / "registry" / "loss" / "own.yaml"
    package.mkdir()
    card.parent.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CPHLOC_REGISTRY", str(card.parent.parent))
    for count, (text, arguments) in enumerate([("", "a: int"), ("# read again\n", "a: int"), ("", "a: float")]):
        card.write_text(CARD.format(package=package.name) + text)
        (package / "part.py").write_text(PART.format(arguments=arguments))
        cached_schema()
        assert len(made) == count + 1
    cached_schema()
    assert len(made) == 3


def test_a_damaged_or_unwritable_cache_is_no_error(made, tmp_path, monkeypatch):
    cached_schema()
    (kept,) = (tmp_path / "cache" / "schemas").iterdir()
    kept.write_text("{")
    assert cached_schema()["title"] == "cphloc recipe"
    assert len(made) == 2
