from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from cphloc import paths
from cphloc.config import yamlio
from cphloc.recipe.merge import shipped_recipes
from cphloc.recipe.schema import recipe_schema

FOLDER = Path(__file__).parent / "broken_recipes"


@pytest.fixture
def valid(fixture_registry):
    schema = json.loads(json.dumps(recipe_schema()))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema).is_valid


def as_json(value: dict) -> dict:
    """Keys become text, as an editor sees them."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "change",
    [
        {}, {"extends": "other.yaml"}, {"x-note": 1}, {"dims": "${x-dims}"}, {"from": "unet3d-ct@1"},
        {"train": {"schedule": {"type": "poly", "power": 1.0}}}, {"train": {"steps": "${x-steps}"}},
    ],
    ids=str,
)  # fmt: skip
def test_a_right_recipe_is_valid(valid, change):
    assert valid(as_json(yamlio.load(FOLDER / "base.yaml").plain | change))


def test_a_child_may_leave_out_what_its_parent_has(valid):
    assert valid({"extends": "parent.yaml", "model": {"backbone": {"widths": [1]}}})
    assert not valid({"model": {"backbone": {"widths": [1]}}})


@pytest.mark.parametrize(
    "change",
    [
        {"task": "segmentatoin"}, {"dims": 4}, {"modle": {}}, {"data": {"type": "kidneys"}},
        {"data": {"type": "sarcoma", "fould": 1}}, {"data": {"type": "sarcoma", "augment": [{"type": "Afine"}]}},
        {"train": {"steps": "many"}}, {"train": {"optimizer": {"type": "Adma"}}}, {"train": {"schedule": "polly"}},
        {"model": {"backbone": {"type": "conv_encoder", "width": [1]}, "heads": {"a": {"type": "unet"}}}},
        {"model": {"backbone": {"type": "conv_encoder"}, "heads": {}}},
        {"model": {"backbone": {"type": "conv_encoder"}, "heads": {"a": {"type": "unet", "loss": {"type": "dic"}}}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_recipe_is_invalid(valid, change):
    assert not valid(as_json(yamlio.load(FOLDER / "base.yaml").plain | change))


def test_the_shipped_schema_completes_names_arguments_and_timm_models():
    schema = recipe_schema()
    timm = next(c for c in schema["$defs"]["backbone"]["anyOf"] if c.get("title") == "timm")
    assert "resnet18" in timm["properties"]["name"]["anyOf"][0]["enum"]
    unet = next(c for c in schema["$defs"]["head"]["anyOf"] if c.get("title") == "unet")
    assert unet["properties"]["loss"]["anyOf"][0] == {"$ref": "#/$defs/loss"}


def test_the_shipped_schema_is_up_to_date():
    shipped = paths.shipped("recipes") / "recipe.schema.json"
    assert json.loads(shipped.read_text()) == json.loads(json.dumps(recipe_schema())), (
        "run: cphloc schema > recipes/recipe.schema.json"
    )


def test_the_header_of_every_shipped_recipe_leads_to_the_schema():
    schema = (paths.shipped("recipes") / "recipe.schema.json").resolve()
    for path in shipped_recipes().values():
        pointer = path.read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / pointer).resolve() == schema, path


def test_every_shipped_recipe_fits_the_shipped_schema():
    validator = jsonschema.Draft7Validator(json.loads((paths.shipped("recipes") / "recipe.schema.json").read_text()))
    for name, path in shipped_recipes().items():
        assert validator.is_valid(as_json(yamlio.load(path).plain)), name
