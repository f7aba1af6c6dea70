"""The files of an entry: weights, recipe, sample, pictures and facts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cphloc.config import yamlio
from cphloc.data.io.read import read_volume
from cphloc.errors import InputError
from cphloc.inference.localization import Localization
from cphloc.modeling.build import build_model
from cphloc.publishing import facts, freeze
from cphloc.recipe import recipe as recipes
from cphloc.registry import catalogue
from cphloc.structures.fingerprint import Fingerprint
from cphloc.training import checkpoint
from cphloc.zoo.load import load
from cphloc.zoo.weights import half_precision


def test_the_weights_are_half_precision_and_within_its_rounding(train_run, put, zoo):
    run = train_run()
    entry = put(run)
    assert entry.weights.precision == "float16"
    published = load(zoo / "tiny" / "1.0.0", device="cpu").model.state_dict()
    for name, value in checkpoint.load(run.folder / checkpoint.BEST)[0].items():
        assert published[name].dtype == torch.float32
        torch.testing.assert_close(published[name], value, rtol=2**-11, atol=2**-24)


def test_half_precision_that_changes_the_sample_is_not_used(train_run, put, monkeypatch):
    def negated(weights):
        return {name: -value for name, value in half_precision(weights).items()}

    monkeypatch.setattr("cphloc.zoo.weights.half_precision", negated)
    assert put(train_run()).weights.precision == "float32"


def test_values_beyond_half_precision_stay_whole():
    weights = {"large": torch.tensor([1e6]), "small": torch.tensor([0.5]), "count": torch.tensor([3])}
    small = half_precision(weights)
    assert [small[name].dtype for name in weights] == [torch.float32, torch.float16, torch.int64]


def test_the_stored_recipe_asks_for_nothing(train_run, put, zoo):
    put(train_run())
    stored = yamlio.load(zoo / "tiny" / "1.0.0" / "recipe.yaml").plain
    assert (stored["data"]["root"], stored["from"], stored["freeze"]) == (None, None, [])


def test_an_entry_states_units_and_the_fingerprint_of_its_training_images(train_run, put, zoo):
    run = train_run()
    known = json.loads((run.folder / "facts.json").read_text())
    fingerprint = Fingerprint.of(["ct"], [[(-1000.0, 0.0, 90.0)]], [[24.0, 32.0, 32.0]], "mm")
    (run.folder / "facts.json").write_text(json.dumps({**known, "training_images": fingerprint.model_dump()}))
    entry = put(run)
    assert {name: (of.modality, of.unit, of.factor) for name, of in entry.inputs.items()} == {"ct": ("CT", "HU", 1.0)}
    model = load(zoo / "tiny" / "1.0.0", device="cpu")
    assert model.inputs.fingerprint == entry.fingerprint == fingerprint
    assert {name: str(of.unit) for name, of in model.inputs.channels.items()} == {"ct": "HU"}


def test_facts_that_make_no_valid_entry_are_named_with_what_to_do(train_run, put):
    run = train_run()
    known = json.loads((run.folder / "facts.json").read_text())
    (run.folder / "facts.json").write_text(json.dumps({**known, "seed": "zero"}))
    with pytest.raises(InputError, match=r"origin\.seed: 'zero' is not a whole number; give a whole number") as caught:
        put(run)
    assert "pydantic" not in str(caught.value)


def test_a_start_from_other_weights_is_taken_out_of_the_stored_recipe():
    model = {"backbone": {"pretrained": True, "weights": "package:x"}, "weights": {"mask": 2.0}}
    expected = {"backbone": {"pretrained": False, "weights": None}, "weights": {"mask": 2.0}}
    assert freeze._without_downloads(model) == expected


def test_the_sample_is_a_real_test_case_with_what_was_predicted(train_run, put, zoo):
    run = train_run()
    put(run)
    sample = zoo / "tiny" / "1.0.0" / "sample"
    facts = json.loads((sample / "expected.json").read_text())
    assert facts["case"] in run.json("evaluation-test.json")["cases"]
    assert (sample / facts["inputs"]["ct"]).stat().st_size > 0
    with pytest.raises(InputError, match="no evaluated test case 'nobody'"):
        put(run, "1.1.0", sample="nobody")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ({"masks": np.zeros}, False),
        ({"masks": np.ones}, True),
        ({"masks": np.zeros, "boxes": ["a box"]}, True),
        ({"boxes": []}, False),
        ({"probabilities": {"mass": 0.1}}, True),
    ],
)
def test_a_sample_shows_a_mask_or_a_box_where_the_model_gives_them(found, shown, dims):
    image = read_volume(np.zeros((4,) * dims), spacing_mm=(1.0,) * dims)
    parts = {name: value((4,) * dims, np.uint8) if name == "masks" else value for name, value in found.items()}
    assert freeze._has_detection(Localization(image, {1: "mass"}, **parts)) is shown


def test_a_metric_that_no_case_defines_is_published_as_undefined(train_run, put):
    run = train_run()
    nan = float("nan")
    run.edit("evaluation-test.json", "metrics", "auc", value={"value": nan, "low": nan, "high": nan, "n": 3})
    found = put(run).evaluation.metrics["auc"]
    assert (found.value, found.low, found.n, found.n_undefined) == (None, None, 0, 3)


def test_the_headline_comes_first_whatever_the_evaluation_lists_first(train_run, put):
    run = train_run()
    facts = run.json("evaluation-test.json")
    facts["metrics"] = {"iou": facts["metrics"]["dice"], **facts["metrics"]}
    run.write("evaluation-test.json", facts)
    table = run.folder / "evaluation-test.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    rows = [[*line, "iou" if line is lines[0] else line[2]] for line in lines]
    table.write_text("".join(",".join(row) + "\n" for row in rows))
    assert put(run).headline[0] == "dice"


def test_pictures_of_test_cases_replace_those_of_validation_cases(train_run, put):
    run = train_run()
    pictures = run.folder / "pictures"
    for name in ("test-worst", "best"):
        (pictures / f"{name}.png").write_bytes((pictures / "worst.png").read_bytes())
    shipped = {f for f in put(run).files if f.startswith("pictures/")}
    assert shipped == {"pictures/test-worst.png", "pictures/best.png"}


def test_a_calibrated_model_is_published_as_it_was_evaluated(train_run, put, zoo):
    """The temperature is part of the entry, and what the sample expects was predicted with it."""
    run = train_run()
    recipe = yamlio.load(run.folder / "recipe.yaml").plain
    attention = {"type": "attention_pool", "classes": {1: "mass"}}
    recipe |= {"task": "attention", "model": recipe["model"] | {"heads": {"finding": attention}}}
    (run.folder / "recipe.yaml").write_text(yamlio.dump(recipe))
    torch.manual_seed(0)
    model = build_model(recipes.load(run.folder / "recipe.yaml"))
    with torch.no_grad():
        model.heads["finding"].labels.weight.fill_(0.0)
        model.heads["finding"].labels.bias.fill_(3.0)
    checkpoint.save(run.folder / checkpoint.BEST, model.state_dict(), {})
    facts = run.json("evaluation-test.json")
    ece = facts["metrics"]["dice"]
    facts["calibration"] = {"temperature": 3.0, "split": "val", "ece_before": ece, "ece_after": ece}
    run.write("evaluation-test.json", facts)
    put(run)
    assert load(zoo / "tiny" / "1.0.0").temperature == 3.0
    expected = json.loads((zoo / "tiny" / "1.0.0" / "sample" / "expected.json").read_text())
    assert expected["probabilities"]["mass"] == pytest.approx(0.7311, abs=1e-3), "sigmoid of 3 / 3"


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        ("sts_petct", ["ct"], ["CT"]),
        ("sts_petct", ["ct", "pet"], ["CT", "PT"]),
        ("phantom", ["ct"], ["CT", "MG"]),
        ("bccd", ["red", "green", "blue"], ["microscopy"]),
    ],
)
def test_an_entry_names_the_modality_of_the_channels_it_reads(name, channels, expected):
    assert facts.modalities_of(catalogue.card("dataset", name), channels) == expected


def test_pictures_of_test_cases_travel_in_256_colours_and_look_the_same(tmp_path):
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    colours = np.stack([*np.meshgrid(ramp, ramp), np.full((64, 64), 90, np.uint8)], axis=-1)
    (tmp_path / "run").mkdir()
    for name in ("worst", "test-worst", "val-best"):
        Image.fromarray(colours).save(tmp_path / "run" / f"{name}.png")
    freeze._copy_pictures(tmp_path / "run", tmp_path / "entry")
    assert [p.name for p in (tmp_path / "entry").iterdir()] == ["test-worst.png"]
    with Image.open(tmp_path / "entry" / "test-worst.png") as picture:
        assert picture.mode == "P"
        assert np.abs(np.asarray(picture.convert("RGB"), int) - colours).mean() < 8
