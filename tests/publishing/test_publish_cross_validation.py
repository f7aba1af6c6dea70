"""A cross-validation is published as the ensemble of its networks, with its out-of-fold metrics."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import scipy.special
import torch

from cphloc.cli import main
from cphloc.data.case import read_case
from cphloc.data.pipeline.pipeline import open_undivided
from cphloc.errors import InputError
from cphloc.evaluation.baseline import Baseline
from cphloc.evaluation.evaluate import evaluate
from cphloc.publishing.compare import compare
from cphloc.publishing.mlflow_facts import _metrics as entry_metrics
from cphloc.publishing.publish import publish
from cphloc.publishing.verify import verify
from cphloc.training.cross_validation import cross_validate
from cphloc.zoo.load import load

ABOUT = {"summary": "A test.", "intended_use": "Tests.", "limits": ["Phantoms."], "changelog": "First."}


@pytest.fixture
def crossed(request, tmp_path, monkeypatch, mlflow_store):
    """A cross-validation of two folds in the number of axes that a test asks for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    size = [24, 24] if request.param == 2 else [8, 24, 24]
    few = {"objects": [1, 1], "distractors": [0, 0], "diameter_mm": [4.0, 6.0], "voxel_mm": [1.0] * request.param}
    data = {"type": "phantom", "size": size, "cases": {"train": 5, "val": 3, "test": 2}, "patch": size, "workers": 0}
    heads = {"mask": {"type": "unet", "classes": {1: "mass"}, "loss": {"type": "dice_ce"}}}
    recipe = {
        **{"name": "crossed", "task": "segmentation", "dims": request.param, "data": {**data, **few}},
        "model": {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": heads},
        "train": {"steps": 2, "batch": 2, "validate_every": 2, "precision": "32"},
    }
    return cross_validate(recipe, 2)


@pytest.mark.parametrize("crossed", [2, 3], indirect=True)
def test_a_cross_validation_is_published_as_one_entry(crossed, zoo, registered, capsys):
    publish(crossed, "both", "1.0.0", to=zoo, about=ABOUT, below_baseline="trained for two steps")
    folder = zoo / "both" / "1.0.0"
    assert registered == ["both@1.0.0"]
    model = load(folder, backend="torch")
    entry = model.entry
    assert entry.evaluation.split == "out_of_fold"
    facts = json.loads((crossed.folder / "evaluation-out_of_fold.json").read_text())
    assert entry.headline[1].value == facts["metrics"]["dice"]["value"]
    assert len(entry.evaluation.cases) == 8
    assert model.recipe.model.members == 2
    assert model.recipe.data.folds is None
    case = open_undivided(crossed.recipe.data, crossed.recipe.dims).cases("test")[0].images[0]
    members = [load(fold, backend="torch") for fold in crossed.fold_folders]
    maps = [one.predict_maps(one.read(case))[1] for one in (model, *members)]
    assert np.allclose(maps[0], np.mean(maps[1:], axis=0), atol=2e-3)  # weights may be stored in half precision
    assert all(check.right for check in verify(folder, metrics=True))
    assert "each predicted by one network" in (folder / "card.md").read_text()
    onnx = folder.parent / "both.onnx"
    assert main(["export", f"{folder}/", "--out", str(onnx)]) == 0
    image = np.random.default_rng(0).normal(size=(2, 1, *crossed.recipe.data.patch)).astype(np.float32)
    outputs = onnxruntime.InferenceSession(onnx).run(None, {"image": image})  # one per network
    each = [one.model(torch.from_numpy(image)).detach().softmax(1).numpy() for one in members]
    assert np.allclose(scipy.special.softmax(outputs, 2), each, atol=2e-3)
    _, lines = compare([folder, crossed.folder])
    (dice,) = (line for line in lines if line.metric == "out_of_fold/dice")
    assert dice.values[0]["value"] == pytest.approx(dice.values[1]["value"])
    assert dice.difference is not None
    assert dice.difference.value == 0
    assert entry.tested is None
    assert main(["evaluate", f"{crossed.folder}/", "--split", "test"]) == 0
    assert "test" in capsys.readouterr().out


@pytest.mark.parametrize("crossed", [2, 3], indirect=True)
def test_an_entry_states_the_metrics_of_the_ensemble_on_the_test_split_too(crossed, zoo, registered, capsys):
    facts = evaluate(crossed, "test").facts
    options = {"to": zoo, "about": ABOUT, "below_baseline": "trained for two steps"}
    entry = publish(crossed, "both", "1.0.0", **options)
    assert entry.evaluation.split == "out_of_fold"
    assert entry.tested.metrics["dice"].value == facts["metrics"]["dice"]["value"]
    assert entry.tested.paired["dice"].value == facts["paired"]["metrics"]["dice"]["value"]
    assert len(entry.tested.cases) == 2
    card = (zoo / "both" / "1.0.0" / "card.md").read_text()
    assert "The ensemble on the 2 cases of the test split, which none of its networks has seen" in card
    assert entry_metrics(entry)["test/dice"] == facts["metrics"]["dice"]["value"]
    assert main(["show", f"{zoo}/both/1.0.0/"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.split()[0] == "tested.metrics.dice"]
    assert publish(crossed, "one", "1.0.0", members=1, **options).tested is None  # another model was evaluated
    dataset = open_undivided(crossed.recipe.data, crossed.recipe.dims)
    every = [read_case(case)[1].mask == 1 for split in ("train", "val") for case in dataset.cases(split)]
    stored = Baseline.load(zoo / "both" / "1.0.0" / "baseline.npz", crossed.recipe.dims, 1)
    assert np.allclose(stored.shape.shares[0] / 240, np.mean(every, axis=0), atol=1 / 240)
    first, second = (folder / "best.safetensors" for folder in crossed.fold_folders)
    first.write_bytes(second.read_bytes())
    with pytest.raises(InputError, match=r"the evaluation is of other weights than best.safetensors holds now"):
        publish(crossed, "changed", "1.0.0", **options)


@pytest.mark.parametrize("crossed", [2], indirect=True)
def test_a_part_of_the_networks_can_be_published_and_changed_ones_cannot(crossed, zoo, registered):
    options = {"to": zoo, "about": ABOUT, "below_baseline": "trained for two steps"}
    entry = publish(crossed, "one", "1.0.0", members=1, **options)
    assert entry.size.parameters * 2 == publish(crossed, "two", "1.0.0", **options).size.parameters
    with pytest.raises(InputError, match="has 2 networks, one per fold; 3 cannot be taken"):
        publish(crossed, "three", "1.0.0", members=3, **options)
    with pytest.raises(InputError, match="is not a cross-validation, so it has no members"):
        publish(crossed.fold_folders[0], "four", "1.0.0", members=1, **options)
    first, second = (folder / "best.safetensors" for folder in crossed.fold_folders)
    first.write_bytes(second.read_bytes())
    with pytest.raises(InputError, match="fold 1: the evaluation is of other weights"):
        publish(crossed, "five", "1.0.0", **options)
    assert not (zoo / "five").exists()


@pytest.mark.parametrize("crossed", [2], indirect=True)
def test_an_ensemble_is_too_large_where_its_networks_together_are(crossed, tmp_path, monkeypatch, registered):
    monkeypatch.setattr("cphloc.publishing.publish.most_bytes", lambda zoo: 10_000)
    options = {"to": tmp_path / "zoo", "about": ABOUT, "below_baseline": "trained for two steps"}
    publish(crossed, "one", "1.0.0", members=1, **options)
    monkeypatch.setattr("cphloc.publishing.publish.most_bytes", lambda zoo: 5_000)
    with pytest.raises(InputError, match="may ship with cphloc"):
        publish(crossed, "two", "1.0.0", **options)
