import subprocess
import sys

import pytest
import torch

from cphloc.modeling.build import blueprint, build, check
from cphloc.recipe.recipe import load

RECIPE = "unet3d-hippocampus"


def test_a_recipe_becomes_the_network_it_describes():
    model = build(RECIPE, {"model.backbone.widths": [4, 6], "model.backbone.strides": [1, [1, 2, 2]]})
    assert [level.stride for level in model.levels] == [(1, 1, 1), (1, 2, 2)]
    assert model.eval()(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 3, 8, 8, 8)


def test_two_dimensions_differ_from_three_in_the_data_and_one_line():
    plain = {
        "task": "segmentation",
        "dims": 2,
        "data": {"type": "phantom", "patch": [32, 32]},
        "model": {
            "backbone": {"type": "conv_encoder", "widths": [4, 8]},
            "heads": {"mask": {"type": "unet", "classes": {1: "mass"}}},
        },
    }
    flat = build(plain)
    deep = build(plain | {"dims": 3, "data": {"type": "phantom", "patch": [16, 32, 32]}})
    assert sorted(flat.state_dict()) == sorted(deep.state_dict())
    assert flat.eval()(torch.zeros(1, 1, 8, 8)).shape[2:] == (8, 8)
    assert deep.eval()(torch.zeros(1, 1, 8, 8, 8)).shape[2:] == (8, 8, 8)


def test_the_loss_of_a_recipe_reaches_its_head():
    model = build(RECIPE, {"model.backbone.widths": [4], "model.heads.mask.loss": {"type": "dice", "squared": True}})
    assert model.heads["mask"].criterion.squared


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"data.patch": [4, 4, 4], "train.batch": 1}, r"the forward pass fails for a patch of \[4, 4, 4\]"),
        ({"model.backbone.strides": [1, 2]}, "4 widths but 2 strides"),
    ],
)
def test_what_does_not_fit_is_named_where_it_was_written(override, said):
    (problem,) = check(load(RECIPE, override))
    assert problem.where.startswith("--set ") or "unet3d-hippocampus.yaml" in problem.where
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(str(problem))


def test_a_blueprint_has_shapes_and_no_memory():
    model = blueprint(load(RECIPE))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_checking_200_million_parameters_stays_under_a_gigabyte():
    code = (
        "from cphloc.modeling.build import blueprint, check\n"
        "from cphloc.recipe.recipe import load\n"
        f"recipe = load('{RECIPE}', {{'model.backbone.widths': [224, 448, 896, 1792]}})\n"
        "assert not check(recipe)\n"
        "millions = sum(p.numel() for p in blueprint(recipe).parameters()) / 1e6\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(millions, peak.split()[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    millions, kilobytes = map(float, done.stdout.split())
    assert millions > 200
    assert kilobytes < 1e6
