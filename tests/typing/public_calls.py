"""Every public name, used as the README uses it; ``make lint`` has pyright check the types. Nothing here is run."""

from pathlib import Path
from typing import assert_type

import numpy as np

import cphloc
from cphloc.evaluation.evaluate import Evaluation
from cphloc.inference.ensemble import Ensemble
from cphloc.inference.localization import Box
from cphloc.inference.localizer import Localizer
from cphloc.modeling.model import Model
from cphloc.studies.sweep import Sweep
from cphloc.tracking.run import Run
from cphloc.zoo.entries import Listing
from cphloc.zoo.entry import Entry


def predict() -> None:
    model = assert_type(cphloc.load("unet3d-hippocampus@^0.2", device="cpu"), Localizer)
    result = assert_type(model.predict("scan.nii.gz"), cphloc.Localization)
    assert_type(result.measurements["anterior"]["volume_ml"], float)
    assert_type(result.boxes, list[Box] | None)
    assert_type(result.image.geometry, cphloc.Geometry)
    assert_type(result.save("out/"), list[Path])
    model.predict(np.zeros((32, 32, 32)), spacing_mm=(2.0, 1.0, 1.0))


def predict_with_an_ensemble() -> None:
    models = assert_type(cphloc.load(["unet3d-petct@0.1.0", Path("zoo/unet3d-petct/0.2.0")]), Ensemble)
    assert_type(models.predict(["case_1", "case_2"]), list[cphloc.Localization])


def train_evaluate_publish() -> None:
    run = assert_type(cphloc.train("my.yaml", {"train.steps": 2000}), Run)
    assert_type(cphloc.cross_validate("my.yaml", 5), Run)
    evaluation = assert_type(cphloc.evaluate(run, split="test"), Evaluation)
    assert_type(evaluation.split, str)
    assert_type(cphloc.publish(run, "my-model", "1.0.0", to="zoo"), Entry)


def build_a_model() -> None:
    model = assert_type(cphloc.build({"task": "segmentation", "dims": 3}, {"model.backbone.widths": [8, 16]}), Model)
    model.eval()


def list_the_zoo() -> None:
    for listing in cphloc.list_entries(task="segmentation", dims=3, modality="CT", name="unet*", all_versions=True):
        assert_type(listing, Listing)


def make_an_annotation() -> None:
    geometry = cphloc.Geometry.regular((8, 16, 16), (3.0, 1.0, 1.0))
    annotation = cphloc.Annotation(mask=np.zeros(geometry.shape, np.uint8))
    assert_type(annotation.completed(geometry.shape, classes=1), cphloc.Annotation)


def handle_a_mistake() -> None:
    try:
        cphloc.load("unet3d-hipocampus")
    except cphloc.CphlocError as error:
        print(cphloc.__version__, error)


def search() -> None:
    found = assert_type(cphloc.sweep("unet3d-ct", {"train.optimizer.lr": [1e-3, 1e-2]}, trials=2, seed=0), Sweep)
    print(found.best, found.recipe, found.trials)
