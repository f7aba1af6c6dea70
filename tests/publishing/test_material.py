"""What a recipe states of one's own data stands in the entry and its card in place of the data set's card."""

from __future__ import annotations

from types import SimpleNamespace

from cphloc.publishing.facts import _data_facts, modalities_of
from cphloc.publishing.material import data_card
from cphloc.recipe.recipe import load

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
    assert facts(recipe().data)["url"] is not None


def test_about_is_no_argument_of_the_data_set():
    assert "about" not in recipe(about=ABOUT).data.args
    assert load(recipe(about=ABOUT).to_plain()).data.about.licence == "CC BY 4.0"
