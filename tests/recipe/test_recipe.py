from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cphloc.config import yamlio
from cphloc.errors import CphlocError, RecipeError
from cphloc.recipe import recipe

BASE = Path(__file__).parent / "broken_recipes" / "base.yaml"
FIXTURE_REGISTRY = Path(__file__).parents[1] / "registry" / "fixture_registry"


@pytest.fixture
def base(fixture_registry) -> dict:
    return yamlio.load(BASE).plain


def test_a_loaded_recipe_is_complete(base):
    loaded = recipe.load(BASE)
    assert loaded.model.backbone.type == "conv_encoder"
    assert loaded.model.backbone.args == {
        "widths": [24, 48], "kernel": 3, "norm": "instance", "dropout": 0.0, "residual": False,
    }  # fmt: skip
    assert loaded.data.args == {"fold": 0}, "common fields are not arguments of the data set"
    assert loaded.data.intensity.model_dump() == {"type": "zscore", "clip": [0.0, 100.0]}
    assert loaded.train.schedule.model_dump() == {"type": "poly", "power": 0.9}
    assert loaded.model.neck is None
    assert len(loaded.channels) == 1


def test_channels_that_the_recipe_leaves_out_are_those_of_the_data_set(base):
    del base["data"]["channels"]
    assert recipe.load(base).data.channels == ["ct", "pet"]


def test_what_is_written_loads_to_the_same(base):
    loaded = recipe.load(BASE)
    again = recipe.load(yaml.safe_load(loaded.to_yaml()))
    assert again.to_yaml() == loaded.to_yaml()
    assert again.sha256 == loaded.sha256
    assert recipe.load(again.to_plain()).to_yaml() == loaded.to_yaml()


def test_the_hash_depends_on_meaning_alone(base, tmp_path):
    reordered = {key: base[key] for key in reversed(base)} | {"x-note": 1, "name": "base"}
    stated = {**reordered, "train": {**base["train"], "seed": 0, "schedule": {"type": "poly"}}}
    changed = {**reordered, "train": {**base["train"], "seed": 1}}
    hashes = [recipe.load(source).sha256 for source in (BASE, reordered, stated, changed)]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]


@pytest.mark.parametrize("classes", [{1: "tumour"}, ["tumour"]])
def test_classes_may_be_a_list_or_a_mapping(base, classes):
    loaded = recipe.load(base, {"model.heads.mask.classes": classes})
    assert loaded.model.heads["mask"].args["classes"] == classes


def test_null_leaves_out_what_is_inherited(base, tmp_path):
    stated = {**base, "freeze": ["backbone.*"], "x-unused": 1}
    stated["train"] = {**base["train"], "schedule": "cosine", "optimizer": {"type": "SGD", "lr": 0.5}, "ema": 0.9}
    stated["data"] = {**base["data"], "intensity": "ct", "augment": [{"type": "Flip"}]}
    (tmp_path / "parent.yaml").write_text(yaml.safe_dump(stated))
    nulls = {"data": {"augment": None, "intensity": None}, "freeze": None}
    nulls["train"] = dict.fromkeys(("schedule", "optimizer", "ema"))
    (tmp_path / "child.yaml").write_text(yaml.safe_dump({"extends": "parent.yaml", **nulls}))
    keys = {"data.augment": None, "data.intensity": None, "freeze": None}
    keys |= {f"train.{key}": None for key in nulls["train"]}
    for loaded in (recipe.load(tmp_path / "child.yaml"), recipe.load(tmp_path / "parent.yaml", keys)):
        assert (loaded.data.augment, loaded.freeze, loaded.train.ema) == ([], [], None)
        assert (loaded.data.intensity.type, loaded.train.schedule.type) == ("zscore", "poly")
        assert loaded.train.optimizer.type == "AdamW"


@pytest.mark.parametrize(
    ("nulls", "message"),
    [
        ({"data.augmnt": None}, "augmnt"),
        ({"model.heads.masks": None}, r"model\.heads\.masks: null is not a block"),
        ({"model.backbone": None}, r"model\.backbone: missing"),
    ],
)
def test_null_for_what_is_not_inherited_or_is_required_is_an_error(base, nulls, message):
    with pytest.raises(RecipeError, match=message):
        recipe.load(base, nulls)
    with pytest.raises(RecipeError, match="null is not"):
        recipe.load({**base, "freeze": None})


def test_short_forms_mean_a_block(base):
    short = recipe.load(base, {"model.heads.mask.loss": "dice_ce", "data.intensity": ["zscore"]})
    assert short.model.heads["mask"].args["loss"] == {"type": "dice_ce", "smooth": 1e-5, "weights": None}
    assert [block.type for block in short.data.intensity] == ["zscore"]


def test_from_is_a_key(base):
    assert recipe.load({**base, "from": "unet3d-ct@1", "freeze": ["backbone.*"]}).from_ == "unet3d-ct@1"


def test_every_value_says_where_it_came_from(base):
    tree = recipe.load(BASE, {"train.steps": 5}).tree
    assert str(tree.get(("train", "steps")).where) == "--set train.steps=5"
    assert str(tree.get(("train", "batch")).where) == f"{BASE}:14:10"
    assert str(tree.get(("train", "seed")).where) == "default"
    assert str(tree.get(("model", "backbone", "norm")).where) == "default of conv_encoder"


def test_problems_are_reported_where_they_were_written(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("parent.yaml").write_text(BASE.read_text().replace("steps: 6000", "stepz: 6000"))
    Path("child.yaml").write_text("extends: parent.yaml\nmodel: {backbone: {width: [1]}}\n")
    with pytest.raises(RecipeError) as caught:
        recipe.load("child.yaml", {"train.batch": "many"})
    assert str(caught.value).splitlines() == [
        "--set train.batch=many: train.batch: 'many' is not a whole number; give a whole number > 0 (default 2)",
        "child.yaml:2:20: model.backbone.width: unknown argument 'width' of backbone 'conv_encoder'; "
        "did you mean 'widths'?",
        "parent.yaml:13:3: train.stepz: unknown key 'stepz'; did you mean 'steps'?",
    ]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_recipe_with_anything_anywhere_gives_a_recipe_or_a_report(base, data):
    paths = ["task", "dims", "data", "data.type", "data.augment", "data.augment[0]", "data.intensity", "data.channels",
             "data.patch", "model", "model.heads", "model.heads.mask", "model.heads.mask.classes",
             "model.heads.mask.loss", "model.heads.mask.loss.type", "model.backbone.widths", "model.neck",
             "model.weights", "train", "train.optimizer.type", "train.schedule", "format", "name"]  # fmt: skip
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(-3, 5)
        | st.floats()
        | st.text(max_size=5)
        | st.sampled_from(["zscore", "dice_ce", "unet", "poly", "${task}", "${model}", "x-y"])
    )
    values = st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "classes", "loss", "p", "mask"]) | st.integers(0, 3), inner, max_size=3
            )
        ),
        max_leaves=6,
    )
    chosen = data.draw(st.dictionaries(st.sampled_from(paths), values, min_size=1, max_size=3))
    with contextlib.suppress(CphlocError):
        loaded = recipe.load(base, chosen)
        assert recipe.load(yamlio.read(loaded.to_yaml(), "again").plain).to_yaml() == loaded.to_yaml()


def test_loading_needs_no_torch():
    code = f"""
import sys
from pathlib import Path
from cphloc import paths
from cphloc.recipe import recipe
paths.registry_folders = lambda: [Path({str(FIXTURE_REGISTRY)!r})]
sys.path.insert(0, {str(FIXTURE_REGISTRY)!r})
recipe.load({str(BASE)!r})
print(*sys.modules, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "timm", "numpy", "fixture_components"} & set(done.stdout.split())


def test_plain_values_are_json(base):
    assert json.loads(json.dumps(recipe.load(BASE).to_plain()))["task"] == "segmentation"


@pytest.mark.parametrize(
    ("about", "units", "expected"),
    [
        ({}, None, ["images in arbitrary units", "images in arbitrary units"]),
        ({"modality": ["CT", "PET"]}, {"b": "SUV x 100"}, ["CT in HU", "PT in SUV x 100"]),
        ({"modality": ["mri"]}, None, ["MR in arbitrary units"] * 2),
        ({"modality": ["microscopy"]}, None, ["images in arbitrary units"] * 2),
    ],
)
def test_a_model_takes_modality_and_unit_that_its_own_data_state(about, units, expected):
    data = {"type": "image_folder", "channels": ["a", "b"], "patch": [16, 16, 16], "about": about, "units": units}
    heads = {"mask": {"type": "unet", "classes": {1: "mass"}}}
    model = {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": heads}
    loaded = recipe.load({"name": "own", "task": "segmentation", "dims": 3, "data": data, "model": model})
    assert [channel.description for channel in loaded.inputs.values()] == expected


@pytest.mark.parametrize("name", ["con", "AUX.x", "com1", "a."])
def test_a_name_that_windows_cannot_have_is_refused(base, name):
    with pytest.raises(RecipeError, match="no folder name on Windows; use another name, such as"):
        recipe.load({**base, "name": name})
