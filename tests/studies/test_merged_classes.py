"""Where a head merges classes of the data set, a study scores the merged classes, as training does."""

from __future__ import annotations

import pytest

from cphloc.recipe.recipe import load
from cphloc.studies.measured import Trained
from cphloc.studies.measures.detection import detection_cases
from cphloc.studies.prior import prior_values
from cphloc.training.train import train

SIDES = {1: "left mass", 2: "right mass"}
SIZES = pytest.mark.parametrize("size", [[16, 16], [16, 16, 16]])


def recipe(size, sides):
    data = {
        **{
            "type": "phantom",
            "size": size,
            "voxel_mm": [1] * len(size),
            "patch": size,
            "diameter_mm": [8, 10],
            "distractors": [0, 0],
        },
        **{
            "positive": 1.0,
            "objects": [1, 1],
            "sides": sides,
            "cases": {"train": 8, "val": 6, "test": 6},
            "workers": 0,
        },
    }
    heads = {
        "mask": {"type": "unet", "classes": {1: "mass"}},
        "boxes": {"type": "fcos", "classes": {1: "mass"}, "channels": 8, "convolutions": 1},
    }
    merged = {head: {"mass": list(SIDES.values())} for head in heads} if sides else {}
    model = {
        "backbone": {"type": "conv_encoder", "widths": [4, 8]},
        "neck": {"type": "fpn", "channels": 8},
        **{"heads": heads, "merged_classes": merged},
    }
    optimizer = {"type": "AdamW", "lr": 0.02}
    steps = {"steps": 40, "batch": 4, "precision": "32", "validate_every": 40, "optimizer": optimizer}
    return load({"task": "localization", "dims": len(size), "data": data, "model": model, "train": steps})


@SIZES
def test_a_measure_has_the_metrics_of_the_validation_in_training(size, work):
    run = train(recipe(size, sides=True))
    trained = Trained(0, run)
    found = trained.scores("val").values()
    assert found["dice"] > 0
    assert {name: found[name] for name in ("dice", "ap50", "map")} == {
        name: pytest.approx(run.metrics[f"val/{name}"], abs=1e-6) for name in ("dice", "ap50", "map")
    }
    assert {number for case in detection_cases(trained) for number in case.reference_classes.tolist()} == {1}


@SIZES
def test_the_prior_of_merged_classes_is_that_of_data_with_one_class(size, work):
    measures = [{"type": "evaluation", "metrics": ["dice", "ap10", "lesion_recall"]}]
    merged, single = (prior_values(recipe(size, sides), measures, 0) for sides in (True, False))
    assert merged == single
    assert merged[""]["dice"] > 0
