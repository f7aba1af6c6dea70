"""Options of a cross-validation's ensemble are chosen on predictions by the networks that have not seen the case."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from scipy import ndimage

from cphloc.cli import main
from cphloc.data.case import read_case
from cphloc.evaluation.evaluate import evaluate
from cphloc.evaluation.out_of_fold import OutOfFold
from cphloc.evaluation.stored_predictions import StoredPrediction
from cphloc.publishing.publish import publish
from cphloc.tracking.run import Run
from cphloc.training.cross_validation import cross_validate
from cphloc.zoo.load import load

ABOUT = {"summary": "A test.", "intended_use": "Tests.", "limits": ["Phantoms."], "changelog": "First."}


@pytest.fixture(scope="module", params=[2, 3])
def finished(request, tmp_path_factory, mlflow_store):
    """A cross-validation of two folds and twelve patients, whose networks predict some of the object and noise."""
    size = [24, 24] if request.param == 2 else [8, 24, 24]
    few = {"objects": [1, 1], "distractors": [0, 0], "diameter_mm": [4.0, 6.0], "voxel_mm": [1.0] * request.param}
    data = {"type": "phantom", "size": size, "cases": {"train": 9, "val": 3, "test": 2}, "patch": size, "workers": 0}
    heads = {"mask": {"type": "unet", "classes": {1: "mass"}, "loss": {"type": "dice_ce"}}}
    recipe = {
        **{"name": "options", "task": "segmentation", "dims": request.param, "data": {**data, **few}},
        "options": ["largest", "min_size"],
        "model": {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": heads},
        "train": {"steps": 8, "batch": 2, "validate_every": 8, "precision": "32"},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        patch.setenv("CPHLOC_CACHE", str(tmp_path_factory.getbasetemp() / "cphloc-cache"))
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
        yield cross_validate(recipe, 2)


def largest(mask):
    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return labels == 1 + sizes.argmax() if count else mask


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_every_option_is_measured_by_the_network_that_has_not_seen_the_case(finished):
    facts = json.loads((finished.folder / "evaluation-out_of_fold.json").read_text())
    chosen = facts["options"]
    assert (chosen["split"], chosen["cases"], chosen["patients"]) == ("out-of-fold", 12, 12)
    found = OutOfFold(finished)
    masks = [
        (StoredPrediction.load(found.path(fold, case)).prediction.mask == 1, read_case(case, finished.recipe.dims)[1])
        for fold, case in found.cases
    ]
    with_objects = [(mask, annotation.mask == 1) for mask, annotation in masks]
    (trial,) = [one for one in chosen["trials"] if one["option"] == "largest"]
    before = np.mean([dice(mask, truth) for mask, truth in with_objects if mask.any() or truth.any()])
    after = np.mean([dice(largest(mask), truth) for mask, truth in with_objects if mask.any() or truth.any()])
    assert (trial["before"], trial["after"]) == (pytest.approx(before, abs=1e-6), pytest.approx(after, abs=1e-6))
    assert trial["kept"] is bool(after > before)
    assert facts["metrics"]["dice"]["value"] == pytest.approx(before, abs=1e-6)  # measured without options


def test_intervals_of_sizes_are_those_of_out_of_fold_errors(finished):
    chosen = json.loads((finished.folder / "options.json").read_text())["chosen"]
    model, found = load(finished, backend="torch"), OutOfFold(finished)
    assert model.options.stated == {k: v for k, v in chosen["options"].items() if k in model.options.stated}
    assert model.sizes.patients == {"mass": 12}
    errors = []
    for fold, case in found.cases:
        network = load(finished.fold_folders[fold - 1], backend="torch")
        network.options = model.options
        mask = network.predict(case.images[0]).masks == 1
        truth = read_case(case, finished.recipe.dims)[1].mask == 1
        edges = [int(one.sum()) ** (1 / finished.recipe.dims) for one in (mask, truth)]
        errors.append(abs(edges[0] - edges[1]))
    assert model.sizes.errors["mass"] == pytest.approx(sorted(errors)[int(np.ceil(13 * 0.9)) - 1], abs=1e-5)


def test_the_entry_applies_and_states_them(finished, tmp_path, registered, capsys):
    zoo = tmp_path / "zoo"
    publish(finished, "chosen", "1.0.0", to=zoo, about=ABOUT, below_baseline="trained for a few steps")
    model = load(zoo / "chosen" / "1.0.0", backend="torch")
    stored = json.loads((finished.folder / "options.json").read_text())["chosen"]
    assert model.entry.options.model_dump() == stored
    assert (model.options, model.sizes) == (model.entry.options.options, model.entry.options.sizes)
    card = (zoo / "chosen" / "1.0.0" / "card.md").read_text()
    assert "Each option was tried out of fold (12 cases of 12 patients)" in card
    assert "of predictions without options" in card
    assert main(["evaluate", f"{finished.folder}/", "--split", "test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"] == stored


def test_they_are_chosen_once_and_again_for_other_weights(finished, tmp_path, monkeypatch):
    from cphloc.evaluation import evaluate_folds

    asked = []
    choose = evaluate_folds.choose_options
    monkeypatch.setattr(evaluate_folds, "choose_options", lambda *given: asked.append(given) or choose(*given))
    shutil.copytree(finished.folder, tmp_path / "copy")
    copy = Run.open(tmp_path / "copy")
    evaluate(copy)
    assert not asked
    evaluate(copy, choose=True)
    assert len(asked) == 1
    first, second = (folder / "best.safetensors" for folder in copy.fold_folders)
    first.write_bytes(second.read_bytes())
    assert load(copy, backend="torch").options.stated == {}
