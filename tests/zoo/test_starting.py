"""Recipes that start from an entry and state only what differs."""

from __future__ import annotations

import pytest

from cphloc.errors import RecipeError
from cphloc.recipe.recipe import load
from cphloc.zoo.starting import load_recipe

ENTRY = "unet3d-hippocampus"


def recipe(**changes):
    return {
        "task": "segmentation",
        "dims": 3,
        "from": ENTRY,
        "data": {"type": "hippocampus", "root": "sample", "patch": [40, 56, 40]},
        **changes,
    }


def test_a_recipe_without_model_has_that_of_the_entry():
    loaded = load_recipe(recipe())
    assert loaded.model.backbone.args["widths"] == [16, 32, 64, 128]
    assert loaded.model.heads["mask"].args["classes"] == {1: "anterior", 2: "posterior"}
    assert str(loaded.tree.get(("model", "backbone", "widths")).where) == f"from {ENTRY}"
    assert load(loaded.to_plain()).to_plain() == loaded.to_plain()


def test_what_differs_is_merged_over_the_model_of_the_entry():
    loss = load_recipe(recipe(model={"heads": {"mask": {"loss": {"type": "tversky"}}}}))
    assert loss.model.heads["mask"].type == "unet"
    assert loss.model.heads["mask"].args["loss"]["type"] == "tversky"
    other = load_recipe(recipe(model={"backbone": {"type": "conv_encoder", "widths": [4, 8]}}))
    assert other.model.backbone.args["widths"] == [4, 8]


def test_heads_that_a_recipe_does_not_list_are_left_out():
    label = {"label": {"type": "gap", "classes": {1: "anterior", 2: "posterior"}}}
    loaded = load_recipe(recipe(task="classification", model={"heads": label}))
    assert list(loaded.model.heads) == ["label"]


def test_an_entry_that_does_not_exist_leaves_the_usual_problems():
    with pytest.raises(RecipeError, match="model"):
        load_recipe(recipe(**{"from": "no-such-entry"}))
