"""The exact report of every recipe in ``broken_recipes/cases.yaml``: errors are user interface."""

from __future__ import annotations

from pathlib import Path

import pytest

from cphloc.config import yamlio
from cphloc.errors import RecipeError
from cphloc.recipe import recipe

FOLDER = Path(__file__).parent / "broken_recipes"
CASES = yamlio.load(FOLDER / "cases.yaml").plain


def report_of(case: dict, folder: Path, monkeypatch: pytest.MonkeyPatch) -> RecipeError:
    text = (FOLDER / "base.yaml").read_text(encoding="utf-8")
    for old, new in case["change"]:
        assert old in text, f"'{old}' is not in base.yaml"
        text = text.replace(old, new, 1)
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    with pytest.raises(RecipeError) as caught:
        recipe.load("recipe.yaml")
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_report_is_exactly_this(case, tmp_path, monkeypatch, fixture_registry):
    assert str(report_of(case, tmp_path, monkeypatch)) == case["report"].removesuffix("\n")


def test_reports_name_the_wrong_key_and_the_right_remedy(tmp_path, monkeypatch, fixture_registry, capsys):
    judged = [case for case in CASES if "key" in case]
    helped = 0
    for case in judged:
        problems = report_of(case, tmp_path, monkeypatch).problems
        helped += any(p.path == case["key"] and case["advice"] in p.fix for p in problems)
    with capsys.disabled():
        print(f"\n{helped} of {len(judged)} broken recipes: the report names the very key and the remedy")
    assert len(judged) >= 80
    assert helped / len(judged) >= 0.97


def test_every_mistake_has_one_line(tmp_path, monkeypatch, fixture_registry):
    by_name = {case["name"]: case for case in CASES}
    assert len(report_of(by_name["seven mistakes"], tmp_path, monkeypatch).problems) == 7
    assert len(report_of(by_name["component, argument and type"], tmp_path, monkeypatch).problems) == 3


def test_the_unbroken_recipe_is_right(fixture_registry):
    loaded = recipe.load(FOLDER / "base.yaml")
    assert loaded.name == "base"
    assert loaded.model.heads["mask"].args["loss"] == {"type": "dice_ce", "smooth": 1e-5, "weights": None}
