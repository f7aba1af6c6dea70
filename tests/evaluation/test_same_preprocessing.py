"""Training, validation and prediction give the network the same tensor for the same image."""

import numpy as np
import pytest
import torch

from cphloc.data.augment.warp import Warp
from cphloc.data.pipeline.patches import cut
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.evaluation.validate import Validator
from cphloc.inference.localizer import Localizer
from cphloc.modeling.build import build_model
from cphloc.recipe.recipe import load
from cphloc.structures.padding import prediction_fill, training_fill

PHANTOM = {
    "type": "phantom",
    "cases": {"train": 2, "val": 1, "test": 0},
    "positive": 1.0,
    "objects": [1, 1],
    "diameter_mm": [5, 6],
    "distractors": [0, 0],
    "workers": 0,
}
HEADS = {
    "mask": {"type": "unet", "classes": {1: "mass"}},
    "boxes": {"type": "centernet", "classes": {1: "mass"}},
    "attention": {"type": "attention_pool", "classes": {1: "mass"}},
}
SETS = {
    "2-D": {"dims": 2, "data": {**PHANTOM, "size": [20, 28], "patch": [32, 32]}},
    "2-D pair": {"dims": 2, "data": {**PHANTOM, "type": "phantom_pair", "size": [20, 28], "patch": [32, 32]}},
    "2-D whole": {"dims": 2, "data": {**PHANTOM, "size": [40, 60], "patch": [32, 32], "fit": "whole"}},
    "3-D resampled": {
        "dims": 3,
        "data": {**PHANTOM, "size": [8, 24, 24], "patch": [16, 32, 32], "spacing_mm": [2, 1.5, 1], "intensity": "ct"},
    },
    "shipped": {"dims": 3, "data": {"type": "hippocampus", "root": "sample", "patch": [48, 64, 48], "workers": 0}},
}


def recipe_of(name, pad, head="mask"):
    block = HEADS[head] | ({"classes": {1: "anterior", 2: "posterior"}} if name == "shipped" else {})
    task = {"mask": "segmentation", "boxes": "detection", "attention": "attention"}[head]
    model = {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": {head: block}}
    plain = SETS[name]
    return load({"task": task, "model": model, **plain, "data": plain["data"] | {"pad": pad}})


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("pad", ["zero", "edge"])
@pytest.mark.parametrize("name", SETS)
def test_the_network_sees_one_tensor(name, pad, head, seen_by):
    recipe = recipe_of(name, pad, head)
    pipeline = Pipeline.from_recipe(recipe)
    network = build_model(recipe).eval()
    case = pipeline.cases("val")[0]
    beyond, fill = (np.subtract(pipeline.patch, case.image.shape[1:]) > 0).any(), training_fill(pipeline.pad)
    start = (0,) * recipe.dims
    trained, _ = cut(case, start, pipeline.patch, Warp.identity(recipe.dims), fill)
    validator = Validator(pipeline.cases("val"), {}, pipeline.patch, prediction_fill(pipeline.pad))
    localizer = Localizer(network, recipe)
    localizer.preprocess = pipeline.preprocess
    sources = [str(source) for source in pipeline.listed("val")[0].images]
    given = sources[0] if len(sources) == 1 else dict(zip(recipe.channels, sources, strict=True))
    validated = seen_by(network, lambda: validator.predict(network, case))
    predicted = seen_by(network, lambda: localizer.predict(given))
    assert beyond
    np.testing.assert_allclose(validated, trained, atol=1e-6)
    np.testing.assert_allclose(predicted, trained, atol=1e-6)


def test_images_of_the_first_format_are_padded_as_they_were():
    plain = {"format": 1, "task": "segmentation", "model": {"backbone": "conv_encoder", "heads": {"m": HEADS["mask"]}}}
    plain["model"]["backbone"] = {"type": "conv_encoder", "widths": [4, 8]}
    pad = load({**plain, **SETS["2-D"]}).data.pad
    assert (training_fill(pad), prediction_fill(pad)) == ("zero", "edge")


@pytest.mark.parametrize("fill", ["zero", "edge"])
def test_patches_of_a_small_image_are_padded_on_every_side(fill):
    recipe = recipe_of("2-D", fill)
    case = Pipeline.from_recipe(recipe).cases("val")[0]
    image = np.asarray(case.image)
    patch, _ = cut(case, (-3, -2), (32, 32), Warp.identity(2), fill)
    margins = ((0, 0), (3, 32 - 3 - image.shape[1]), (2, 32 - 2 - image.shape[2]))
    expected = np.pad(image, margins, mode="edge" if fill == "edge" else "constant")
    np.testing.assert_array_equal(patch, expected)
    turned, _ = cut(case, (-3, -2), (32, 32), Warp(np.eye(2), (1e-7, 0.0)), fill)
    torch.testing.assert_close(torch.from_numpy(turned), torch.from_numpy(expected), atol=1e-4, rtol=0)
