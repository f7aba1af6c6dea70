"""Keys of a recipe that messages name exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import cphloc
from cphloc.recipe.fields import About, Data, Train
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue

SECTIONS = {"data": Data, "train": Train, "about": About}
FILES = ("yaml", "json", "csv", "py", "html")


def named_keys():
    for path in sorted(Path(cphloc.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = re.findall(r"(?<![\w./{])(data|train|about)\.([a-z]\w*)(?![\w(/])", node.value)
                yield from ((path.name, section, key) for section, key in found if key not in FILES)


def test_every_key_that_a_message_names_exists():
    arguments = {a.name for card in catalogue.cards("dataset").values() for a in catalogue.arguments(card)}
    wrong = [
        f"{file}: {section}.{key}"
        for file, section, key in named_keys()
        if key not in SECTIONS[section].model_fields and not (section == "data" and key in {*arguments, "type"})
    ]
    assert wrong == []
    assert len(list(named_keys())) > 30, "the pattern finds them"
    assert set(SECTIONS) <= set(Recipe.model_fields)
