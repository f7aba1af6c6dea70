import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cphloc.errors import InputError
from cphloc.modeling.build import blueprint
from cphloc.modeling.describe import describe
from cphloc.recipe.recipe import load


def recipe(dims, **backbone):
    return load(
        {
            "task": "segmentation",
            "dims": dims,
            "data": {"type": "phantom", "patch": [16] * dims},
            "model": {
                "backbone": {"type": "conv_encoder", "convolutions": 1, "norm": "none", **backbone},
                "neck": {"type": "fpn", "channels": 4},
                "heads": {"mask": {"type": "unet", "classes": {1: "mass"}}},
            },
        }
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_receptive_field_of_stride_one_grows_by_two_a_layer(dims):
    found = describe(recipe(dims, widths=[2, 2, 2], strides=[1, 1, 1])).to_plain()
    fields = [level["receptive_field"] for level in found["levels"] if level["stage"] == "backbone"]
    assert fields == [[3] * dims, [5] * dims, [7] * dims]


@pytest.mark.parametrize("dims", [2, 3])
def test_work_and_size_are_those_of_the_formula(dims):
    one = describe(recipe(dims, widths=[6], strides=[1]))
    cells, kernel = 16**dims, 3**dims
    assert one.parameters["backbone"] == 6 * kernel + 6
    scores = cells * 4 * 2
    fpn = cells * (6 * 4 + 4 * 4 * kernel)
    assert one.multiply_adds == cells * 6 * kernel + fpn + scores


def test_strides_are_per_axis():
    found = describe(recipe(3, widths=[2, 2], strides=[1, [1, 2, 2]])).to_plain()
    assert [level["stride"] for level in found["levels"]] == [[1, 1, 1], [1, 2, 2]] * 2
    assert found["levels"][1]["cells"] == [16, 8, 8]


def test_parameters_are_those_of_the_built_model():
    from cphloc.modeling.build import build_model

    made = recipe(2, widths=[4, 8])
    assert sum(p.numel() for p in build_model(made).parameters()) == sum(describe(made).parameters.values())
    assert torch.is_tensor(next(build_model(made).parameters()))


def test_without_a_patch_there_is_nothing_to_measure():
    made = recipe(2, widths=[4]).model_copy(deep=True)
    made.data.patch = None
    with pytest.raises(InputError, match=r"no data\.patch"):
        describe(made)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["fast_rcnn", "faster_rcnn", "rcnn"])
def test_the_second_stage_is_counted_for_every_proposal(dims, name):
    small = {"rcnn": {"crop": 4, "widths": [2, 3]}, "faster_rcnn": {"proposals": 7}}.get(name, {})
    sizes = {} if name == "faster_rcnn" else {"proposal_sizes": [[16] * dims], "proposal_overlap": 0.0}
    heads = small | sizes | ({} if name == "rcnn" else {"channels": 2, "pool": 3, "width": 5})
    made = load(
        {
            "task": "detection",
            "dims": dims,
            "data": {"type": "phantom", "patch": [32] * dims},
            "model": {
                "backbone": {"type": "identity"},
                "heads": {"boxes": {"type": name, "classes": {1: "mass"}, **heads}},
            },
        }
    )
    model = blueprint(made).eval()
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        outputs = model.outputs(torch.empty(1, 1, *[32] * dims, device="meta"))["boxes"]
    proposals = len(getattr(outputs, "regions", outputs).proposals[0])
    assert proposals == (7 if name == "faster_rcnn" else 2**dims)
    last = 2 + 2 * dims  # background and the class, and an offset of every edge
    if name == "rcnn":  # two strided convolutions on a crop of 4 cells per axis
        second = proposals * (2**dims * 1 * 2 * 3**dims + 1 * 2 * 3 * 3**dims + 3 * last)
    else:  # one channel to two on every cell, then fully connected layers on 3 bins per axis
        second = 32**dims * 2 + proposals * (2 * 3**dims * 5 + 5 * 5 + 5 * last)
    assert describe(made).multiply_adds == flops.get_total_flops() // 2 + second
    if name == "rcnn":  # every convolution is followed by a norm and an activation of its size
        numbers = proposals * (3 * (2**dims * 2 + 3) + last)
    else:  # the reduced map and its activation, the flattened bins, two layers with activations, and the two last ones
        numbers = 2 * 32**dims * 2 + proposals * (2 * 3**dims + 4 * 5 + last)
    first = 0 if name != "faster_rcnn" else describe(made).activation_mb * 1e6 / 4 - numbers
    assert describe(made).activation_mb == pytest.approx(4 * (numbers + first) / 1e6)
    assert first > 0 or name != "faster_rcnn", "the proposal network is counted as well"
