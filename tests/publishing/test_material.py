"""What a recipe states of one's own data stands in the entry and its card in place of the data set's card."""

from __future__ import annotations

from types import SimpleNamespace

from cphloc.modeling.classes import with_matched_classes
from cphloc.publishing.facts import _data_facts, modalities_of
from cphloc.publishing.material import data_card
from cphloc.recipe.recipe import load
from cphloc.structures.options import Options
from cphloc.zoo.agreement import recipe_disagreements

ABOUT = {
    "name": "knees",
    "licence": "CC BY 4.0",
    "citation": "Doe 2024, Knees",
    "source": "https://example.org/knees",
    "modality": ["MR"],
}


def recipe(**data):
    return load(
        {
            "task": "segmentation",
            "dims": 3,
            "data": {"type": "image_folder", "patch": [8, 8, 8], **data},
            "model": {
                "backbone": {"type": "conv_encoder", "widths": [4, 8]},
                "heads": {"mask": {"type": "unet", "classes": {1: "object"}}},
            },
        }
    )


def facts(data):
    dataset = SimpleNamespace(cases=lambda split: [1, 2])
    return _data_facts(SimpleNamespace(source=data_card(data), dataset=dataset, facts={"data_fingerprint": "f"}))


def test_ones_own_data_are_described_by_the_recipe():
    own = recipe(about=ABOUT).data
    stated = facts(own)
    assert {key: stated[key] for key in ("name", "licence", "citation", "url")} == {
        "name": "knees",
        "licence": "CC BY 4.0",
        "citation": "Doe 2024, Knees",
        "url": "https://example.org/knees",
    }
    assert modalities_of(data_card(own), ["image"]) == ["MR"]


def test_what_is_not_stated_is_that_of_the_data_set_but_not_its_address():
    stated = facts(recipe(about={"licence": "CC0"}).data)
    assert (stated["name"], stated["licence"], stated["url"]) == ("image_folder", "CC0", None)
    nothing = facts(recipe().data)
    assert (nothing["licence"], nothing["citation"], nothing["url"]) == ("that of your data", "not stated", None)


def entry_of(own, **facts):
    stated = {
        "task": "segmentation",
        "dims": 3,
        "channels": ["image"],
        "spacing_mm": None,
        "intensity": own.to_plain()["data"]["intensity"],
        "classes": {1: "object"},
        "data": SimpleNamespace(name="knees"),
        "stages": None,
        "evaluation": SimpleNamespace(metrics={"dice": 0.5}),
        "options_applied": Options(),
    }
    return SimpleNamespace(**{**stated, **facts})


def test_an_entry_agrees_with_a_recipe_that_names_ones_own_data():
    own = recipe(about=ABOUT)
    entry = entry_of(own)
    assert list(recipe_disagreements(entry, own)) == []
    assert list(recipe_disagreements(entry, recipe())) == [
        "entry.yaml states data set knees but its recipe has image_folder"
    ]


def test_an_entry_states_the_classes_of_the_data_set_and_its_options_those_that_its_head_merges():
    merged = {"mask": {"type": "unet", "classes": {1: {"name": "tumour", "of": ["glioma", "cyst"]}}}}
    own = load({**recipe(about=ABOUT).to_plain(), "model": {"backbone": {"type": "conv_encoder"}, "heads": merged}})
    own = with_matched_classes(own, {1: "cyst", 2: "glioma"})
    facts = {"classes": {1: "cyst", 2: "glioma"}, "options_applied": Options(min_size={"tumour": 9.0})}
    assert list(recipe_disagreements(entry_of(own, **facts), own)) == []
    facts["options_applied"] = Options(largest=["cyst"], min_size={"tumour": 9.0})
    assert list(recipe_disagreements(entry_of(own, **facts), own)) == [
        "entry.yaml: options name no class of the recipe: cyst"
    ]


def test_about_is_no_argument_of_the_data_set():
    assert "about" not in recipe(about=ABOUT).data.args
    assert load(recipe(about=ABOUT).to_plain()).data.about.licence == "CC BY 4.0"
