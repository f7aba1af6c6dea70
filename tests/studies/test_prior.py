"""The prior of a study has the values that the annotations alone give."""

from __future__ import annotations

import numpy as np
import pytest

from cphloc.data.case import read_case
from cphloc.data.datasets.phantom import PhantomCases
from cphloc.recipe.recipe import load
from cphloc.studies.prior import prior_values

DATA = {"positive": 0.6, "objects": [1, 1], "diameter_mm": [4, 5], "distractors": [0, 0]}
CASES = {"train": 8, "val": 2, "test": 6}


def recipe(size, head):
    data = {"type": "phantom", "size": size, "voxel_mm": [1] * len(size), "patch": size, "cases": CASES, **DATA}
    model = {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": {"h": head}}
    task = "detection" if head["type"] == "global_box" else "classification"
    return load({"task": task, "dims": len(size), "data": data, "model": model, "train": {"steps": 2}})


def phantom(size):
    return PhantomCases(size=size, voxel_mm=[1] * len(size), cases=CASES, **DATA)


@pytest.mark.parametrize("size", [[16, 16], [8, 16, 16]])
def test_the_prior_box_is_the_mean_training_box_and_what_looks_at_the_network_has_no_prior(size, work):
    def boxes(split):
        return [read_case(c, len(size))[1].completed(tuple(size), 1).boxes for c in phantom(size).cases(split)]

    middle = np.mean([(b[:, : len(size)] + b[:, len(size) :]) / 2 for b in boxes("train") if len(b)], axis=0)[0]
    away = [np.linalg.norm((b[0, : len(size)] + b[0, len(size) :]) / 2 - middle) for b in boxes("test") if len(b)]
    measures = [{"type": "centre_error"}, {"type": "cost"}, {"type": "first_loss"}]
    found = prior_values(recipe(size, {"type": "global_box", "classes": {1: "mass"}}), measures, 0)
    assert found == {"": {"centre_error": pytest.approx(np.mean(away), abs=1e-4)}}


def test_the_prior_probability_is_the_frequency_in_training(work):
    found = prior_values(recipe([16, 16], {"type": "gap", "classes": {1: "mass"}}), [{"type": "evaluation"}], 0)[""]
    label = {split: np.array([c.annotation.label[0] for c in phantom([16, 16]).cases(split)]) for split in CASES}
    assert found["auc"] == 0.5
    assert found["brier"] == pytest.approx(np.mean((label["train"].mean() - label["test"]) ** 2))
