"""A model whose mask and boxes merge classes that its label head keeps apart, from its recipe to its results."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from cphloc.evaluation.baseline import Baseline
from cphloc.evaluation.evaluate import evaluate, open_localizer
from cphloc.metrics.segmentation import dice
from cphloc.recipe.recipe import load
from cphloc.training.check import check
from cphloc.training.train import train

pytestmark = pytest.mark.usefixtures("at_work")

MASS = {1: {"name": "mass", "of": ["left mass", "right mass"]}}
SIDES = {1: "left mass", 2: "right mass"}


def recipe(size, augment=()):
    dims = len(size)
    return load(
        {
            "name": "merged",
            "task": "segmentation",
            "dims": dims,
            "data": {
                "type": "phantom",
                "size": list(size),
                "patch": list(size),
                "sides": True,
                "cases": {"train": 3, "val": 2, "test": 2},
                "positive": 1.0,
                "diameter_mm": [4, 8],
                "distractors": [0, 0],
                "workers": 0,
                "augment": list(augment),
            },
            "model": {
                "backbone": {"type": "conv_encoder", "widths": [4, 8]},
                "heads": {
                    "side": {"type": "attention_pool", "classes": SIDES},
                    "mask": {"type": "unet", "classes": MASS},
                    "boxes": {"type": "retina", "classes": MASS, "channels": 8, "convolutions": 1},
                },
            },
            "train": {"steps": 2, "batch": 2, "precision": "32", "validate_every": 2},
        }
    )


@pytest.mark.parametrize("size", [(32, 32), (8, 32, 32)], ids=["2d", "3d"])
def test_metrics_baseline_and_results_count_the_merged_class(size, at_work):
    made = recipe(size)
    assert check(made).problems == []
    run = train(made)
    assert {"val/dice", "val/ap50", "val/auc/left mass"} <= set(run.metrics)
    assert not {"val/dice/left mass", "val/ap50/left mass"} & set(run.metrics)

    evaluation = evaluate(run)
    assert set(evaluation.facts["per_class"]) == set(SIDES.values())  # of the labels; the one class of mask and boxes
    baseline = Baseline.load(run.folder / "baseline.npz", len(size), open_localizer(run)[0].classes)
    assert len(baseline.shape.shares) == 1
    assert baseline.boxes.classes.tolist() == [1]
    assert len(baseline.prevalence) == 2

    localizer, _ = open_localizer(run)
    from cphloc.data.case import read_case
    from cphloc.data.pipeline.pipeline import open_dataset

    case = open_dataset(made.data, len(size)).cases("test")[0]
    volume, annotation = read_case(case, len(size))
    result = localizer.predict(volume)
    assert list(result.measurements) == ["mass"]
    assert list(result.probabilities) == list(SIDES.values())
    assert {box.name for box in result.boxes} <= {"mass"}
    assert all(path.exists() for path in result.save(at_work / "out"))

    by_hand = dice(result.masks, (annotation.mask > 0).astype(np.uint8), 1)
    rows = {row["case"]: row for row in csv.DictReader((run.folder / "evaluation-test.csv").open())}
    measured = rows[case.id]["dice"]
    assert (by_hand if by_hand == by_hand else 0) == pytest.approx(float(measured or 0), abs=1e-6)


def test_a_mirrored_view_exchanges_the_sides_of_the_labels_and_leaves_the_merged_mask(at_work):
    flip = {"type": "Flip", "swap": {1: 2}}
    run = train(recipe((32, 32), [flip]))
    localizer, _ = open_localizer(run)
    image = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    one = localizer.predict(image, (1, 1), tta=True)
    other = localizer.predict(image[:, ::-1].copy(), (1, 1), tta=True)
    assert np.mean(one.masks == other.masks[:, ::-1]) > 0.999
    left, right = one.probabilities.values()
    assert (right, left) == pytest.approx(list(other.probabilities.values()), abs=1e-5)
