import pytest

from cphloc.modeling.advice import advice
from cphloc.recipe.recipe import load


def recipe(backbone, head=None, data=None, dims=3, **train):
    return load(
        {
            "task": "localization",
            "dims": dims,
            "data": data or {"type": "hippocampus", "spacing_mm": [1, 1, 1], "patch": [32, 32, 32]},
            "model": {
                "backbone": {"type": "conv_encoder", **backbone},
                "heads": {"found": head or {"type": "unet", "classes": ["anterior", "posterior"]}},
            },
            "train": {"steps": 10, **train},
        }
    )


def told(made):
    return [f"{found.path}: {found.what}" for found in advice(made)]


def test_a_model_that_sees_less_than_an_object_is_told_both_numbers():
    (said,) = told(recipe({"widths": [4, 4], "strides": [1, 1], "convolutions": 1}))
    assert said.startswith("model.backbone: its receptive field is 5 x 5 x 5 voxels")
    assert said.endswith("half of the objects are larger than 20 x 22 x 19")
    assert told(recipe({"widths": [4, 4, 4, 4]})) == []


def test_objects_count_in_voxels_of_the_models_own_spacing():
    data = {"type": "hippocampus", "spacing_mm": [5, 5, 5], "patch": [16, 16, 16]}
    assert told(recipe({"widths": [4, 4], "strides": [1, 1], "convolutions": 1}, data=data)) == []


def test_cells_larger_than_the_small_objects_are_told_to_box_heads_only():
    fine, coarse = ({"widths": [4, 4], "strides": strides} for strides in ([4, 4], [16, 1]))
    boxes = {"type": "fcos", "classes": ["anterior", "posterior"]}
    said = "model.heads.found: objects of 15 x 18 x 16 voxels, and the finest level has cells of 16 x 16 x 16"
    assert said in told(recipe(coarse, boxes))
    assert said not in told(recipe(fine, boxes))
    assert said not in told(recipe(coarse))


@pytest.mark.parametrize(("batch", "warned"), [(2, True), (16, False)])
def test_batch_norm_over_few_values_is_told(batch, warned):
    data = {"type": "hippocampus", "spacing_mm": [1, 1, 1], "patch": [16, 16, 16]}
    lines = told(recipe({"widths": [4] * 5, "norm": "batch"}, data=data, batch=batch))
    assert any("batch norm over only 2 values" in line for line in lines) == warned


def test_pretrained_colours_and_grey_images_are_told():
    data = {"type": "busi", "patch": [256, 256], "fit": "whole"}
    head = {"type": "unet", "classes": ["benign", "malignant"]}
    plain = {
        "task": "segmentation",
        "dims": 2,
        "data": data,
        "model": {"backbone": {"type": "timm", "name": "resnet10t", "pretrained": True}, "heads": {"mask": head}},
    }
    assert told(load(plain)) == ["model.backbone: pretrained on RGB images, and these images have 1 channel"]


def test_a_patch_that_the_model_has_to_pad_is_told_the_size():
    data = {"type": "hippocampus", "spacing_mm": [1, 1, 1], "patch": [32, 31, 32]}
    (said,) = told(recipe({"widths": [4] * 4}, data=data))
    wanted = "[32, 31, 32] is not a multiple of the model's stride [8, 8, 8], and is padded to [32, 32, 32]"
    assert said == f"data.patch: {wanted}"
