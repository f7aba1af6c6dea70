"""Classes are matched by number and name: swapped, missing and unknown ones are errors, the order of a list is free."""

from __future__ import annotations

import pytest

from cphloc.errors import InputError, RecipeError
from cphloc.modeling.build import build_model, check
from cphloc.modeling.classes import matched, with_matched_classes
from cphloc.recipe.recipe import load

KNOWN = {1: "anterior", 2: "posterior"}


@pytest.mark.parametrize("stated", [KNOWN, ["anterior", "posterior"], ["posterior", "anterior"]])
def test_names_take_the_numbers_of_the_data_set(stated):
    assert matched(stated, KNOWN) == KNOWN


@pytest.mark.parametrize(
    ("stated", "text"),
    [
        ({1: "posterior", 2: "anterior"}, "class 1 is 'posterior' here and 'anterior' in the data set; write {1:"),
        (["anterior"], "the data set's class 'posterior' is missing; write {1: anterior, 2: posterior}"),
        (["anterior", "posterio"], "no class 'posterio'; did you mean 'posterior'?"),
        ({1: "anterior", 2: "posterior", 3: "tail"}, "no class 'tail'; its classes are {1: anterior"),
    ],
)  # fmt: skip
def test_a_mismatch_says_what_the_data_set_has(stated, text):
    with pytest.raises(InputError) as caught:
        matched(stated, KNOWN)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("demo", {"model.heads.mask.classes": {1: "posterior", 2: "anterior"}}),
        ("unet3d-hippocampus", {"model.heads.mask.classes": {1: "posterior", 2: "anterior"}, "data.root": "no-such"}),
        (
            "systems/unet2d-phantom",
            {"model.heads.mask.classes": {1: "right mass", 2: "left mass"}, "data.sides": True},
        ),
        ("systems/unet3d-phantom", {"data.sides": True}),
    ],
)
def test_check_finds_a_mismatch_with_and_without_the_data(name, override):
    (problem,) = check(load(name, override))
    assert problem.path == "model.heads.mask.classes"


def test_a_list_in_another_order_builds_a_model_with_the_numbers_of_the_data():
    recipe = load("demo", {"model.heads.mask.classes": ["posterior", "anterior"]})
    assert check(recipe) == []
    matching = with_matched_classes(recipe, KNOWN)
    assert build_model(matching).heads["mask"].classes == KNOWN
    assert recipe.model.heads["mask"].args["classes"] == ["posterior", "anterior"]


def test_all_heads_are_reported_at_once():
    swapped = {2: "anterior", 1: "posterior"}
    recipe = load(
        "demo", {"model.heads.mask.classes": swapped, "model.heads.more": {"type": "unet", "classes": ["anterior"]}}
    )
    with pytest.raises(RecipeError) as caught:
        with_matched_classes(recipe, KNOWN)
    assert [p.path for p in caught.value.problems] == ["model.heads.mask.classes", "model.heads.more.classes"]
