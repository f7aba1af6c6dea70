"""Classes are matched by number and name: swapped, missing and unknown ones are errors, the order of a list is free."""

from __future__ import annotations

import pytest

from cphloc.errors import InputError, RecipeError
from cphloc.modeling.build import build_model, check
from cphloc.modeling.classes import matched, with_matched_classes
from cphloc.recipe.recipe import load
from cphloc.structures.merging import of_part

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


TUMOURS = {1: "meningioma", 2: "glioma", 3: "pituitary"}


def tumours(mask, **heads):
    heads = {"mask": {"type": "unet", "classes": mask}, **heads}
    model = {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": heads}
    data = {"type": "image_folder", "classes": TUMOURS, "patch": [16, 16]}
    return load({"task": "segmentation", "dims": 2, "data": data, "model": model})


def test_a_head_can_merge_classes_of_the_data_set_while_another_keeps_them():
    recipe = tumours(
        {1: {"name": "tumour", "of": ["glioma", "meningioma", "pituitary"]}},
        kind={"type": "attention_pool", "classes": TUMOURS},
    )
    assert check(recipe, TUMOURS) == []
    stored = with_matched_classes(recipe, TUMOURS)
    assert stored.model.heads["mask"].args["classes"] == {1: "tumour"}
    assert stored.model.merged_classes == {"mask": {"tumour": {2: "glioma", 1: "meningioma", 3: "pituitary"}}}
    again = load(stored.to_plain())
    for model in (build_model(stored), build_model(again)):
        assert model.classes == TUMOURS
        assert of_part(model.classes, "mask") == {1: "tumour"}
        assert of_part(model.classes, "labels") == TUMOURS
        assert model.mergings["mask"].table == (0, 1, 1, 1)


def test_classes_that_are_not_merged_keep_their_name():
    recipe = tumours([{"name": "benign", "of": ["pituitary", "meningioma"]}, "glioma"])
    assert check(recipe, TUMOURS) == []
    assert build_model(recipe).mergings["mask"].table == (0, 1, 2, 1)


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (["glioma", "meningioma"], "the data set's class 'pituitary' is missing; add it, or list it in `of`"),
        (["glioma", "meningioma", "pituitari"], "no class 'pituitari'; did you mean 'pituitary'?"),
        (["glioma", "glioma", "meningioma"], "'glioma' is part of 'tumour' and of 'tumour'; name it once"),
    ],
)
def test_merged_classes_must_be_those_of_the_data_set_each_once(of, text):
    problems = check(tumours({1: {"name": "tumour", "of": of}}), TUMOURS)
    assert len(problems) == 1
    assert text in str(problems[0])


def test_sides_that_are_merged_still_count_as_sides():
    """A flip would swap the classes that another group does not contain."""
    data = {"type": "image_folder", "classes": ["kidney_left", "kidney_right"]}
    heads = {"mask": {"type": "unet", "classes": [{"name": "kidney", "of": ["kidney_left", "kidney_right"]}]}}
    model = {"backbone": {"type": "conv_encoder"}, "heads": heads}
    assert load({"task": "segmentation", "dims": 3, "data": data, "model": model}).laterality


def test_merged_classes_of_a_head_that_does_not_exist_are_an_error():
    plain = tumours({1: {"name": "tumour", "of": list(TUMOURS.values())}}).to_plain()
    plain["model"]["merged_classes"] = {"msk": {"tumour": ["glioma"]}}
    with pytest.raises(RecipeError, match="no head 'msk' with classes; did you mean 'mask'"):
        load(plain)
