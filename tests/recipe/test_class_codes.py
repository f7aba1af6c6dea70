"""Codes of classes in a recipe."""

from __future__ import annotations

import pytest

from cphloc.errors import RecipeError
from cphloc.recipe.recipe import load, load_stored

BASE = {
    "task": "segmentation",
    "dims": 3,
    "model": {"backbone": {"type": "conv_encoder"}, "heads": {"mask": {"type": "unet"}}},
}


def recipe(classes, data_classes=("liver", "lesion"), **more):
    model = {**BASE["model"], "heads": {"mask": {"type": "unet", "classes": classes}}}
    data = {"type": "image_folder", "classes": list(data_classes)}
    return load({**BASE, "data": data, "model": model, **more})


LIVER = {"name": "liver", "code": "SCT:10200004:Liver"}


@pytest.mark.parametrize("classes", [{1: LIVER, 2: "lesion"}, [LIVER, "lesion"], {1: LIVER, 2: {"name": "lesion"}}])
def test_a_code_beside_a_class_name_is_stored_by_name(classes):
    found = recipe(classes)
    names = found.model.heads["mask"].args["classes"]
    assert list(names.values() if isinstance(names, dict) else names) == ["liver", "lesion"]
    assert found.codes == {"liver": "SCT:10200004:Liver"}
    assert load_stored(found.to_plain()).codes == found.codes


def test_classes_of_the_data_set_have_codes_too():
    found = recipe({1: "liver", 2: "lesion"}, data_classes=(LIVER, "lesion"))
    assert found.data.args["classes"] == ["liver", "lesion"]
    assert found.codes == {"liver": "SCT:10200004:Liver"}


def test_what_is_no_code_is_an_error_at_its_place():
    with pytest.raises(RecipeError, match=r"codes.*code 'liver' is not SCHEME:VALUE:MEANING"):
        recipe({1: {"name": "liver", "code": "liver"}, 2: "lesion"})
    with pytest.raises(RecipeError, match="classes"):
        recipe({1: {"name": "liver", "colour": "red"}, 2: "lesion"})
