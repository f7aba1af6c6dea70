"""Which parts of an entry's tensors a model with other classes and channels takes over."""

from __future__ import annotations

import pytest
import torch

from cphloc.modeling.build import build_model
from cphloc.recipe.recipe import load
from cphloc.training.finetune import preparation_differences, take_over
from cphloc.training.matching import named_axes


def recipe_of(head, classes, channels=("ct",), dims=2, **data):
    size = [32] * dims
    return load(
        {
            "task": "detection" if head != "unet" else "segmentation",
            "dims": dims,
            "data": {"type": "image_folder", "root": ".", "channels": list(channels), "patch": size, **data},
            "model": {
                "backbone": {"type": "conv_encoder", "widths": [4, 8]},
                "heads": {"one": {"type": head, "classes": list(classes)}},
            },
        }
    )


def taken_over(new, old):
    """Both models, after the new one has taken over the weights of the old one, the new one before, and the report."""
    torch.manual_seed(0)
    source, target, before = build_model(old), build_model(new), {}
    for index, value in enumerate(source.state_dict().values()):
        value.copy_(torch.randn(value.shape) + index if value.is_floating_point() else value)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    axes, notes = named_axes(new, old)
    report = take_over(target, source.state_dict(), "old", axes)
    report.notes += notes
    return source.state_dict(), target.state_dict(), before, report


@pytest.mark.parametrize("dims", [2, 3])
def test_rows_of_classes_follow_their_names(dims):
    old = recipe_of("unet", ["liver", "spleen", "tumour"], dims=dims)
    new = recipe_of("unet", ["tumour", "kidney", "liver"], dims=dims)
    source, target, before, report = taken_over(new, old)
    rows = [name for name, value in target.items() if name.startswith("heads.") and value.shape[0] == 4]
    last = [name for name in rows if ".score." in name]
    assert last
    for name in last:
        background, tumour, kidney, liver = target[name]
        assert torch.equal(background, source[name][0])
        assert torch.equal(tumour, source[name][3])
        assert torch.equal(liver, source[name][1])
        assert torch.equal(kidney, before[name][2])
    assert report.notes == [
        "head 'one': classes: tumour, liver taken over by name, kidney initialized anew, spleen left out"
    ]


def test_kernels_of_channels_follow_their_names():
    old, new = recipe_of("unet", ["a"], ["ct", "pet"]), recipe_of("unet", ["a"], ["pet", "mr", "ct"])
    source, target, before, report = taken_over(new, old)
    name = next(name for name, value in target.items() if value.ndim == 4)
    assert torch.equal(target[name][:, 0], source[name][:, 1])
    assert torch.equal(target[name][:, 1], before[name][:, 1])
    assert torch.equal(target[name][:, 2], source[name][:, 0])
    assert report.notes == ["channels: pet, ct taken over by name, mr initialized anew"]


def test_a_channel_of_another_name_is_not_taken_over_by_place():
    old, new = recipe_of("unet", ["a"], ["ct"]), recipe_of("unet", ["a"], ["pet"])
    _, target, before, report = taken_over(new, old)
    name = next(name for name, value in target.items() if value.ndim == 4)
    assert torch.equal(target[name], before[name])
    assert "if they are the same, give them the same names" in report.notes[0]


@pytest.mark.parametrize("head", ["retina", "faster_rcnn", "global_box", "yolo", "centernet", "gap", "fcos"])
def test_every_kind_of_head_scores_a_class_as_before_when_the_classes_are_reordered(head):
    """Renaming by permutation: outputs of the new model are those of the old one with the classes permuted."""
    old, new = recipe_of(head, ["a", "b", "c"]), recipe_of(head, ["c", "a", "b"])
    source, target, _, report = taken_over(new, old)
    assert not report.skipped
    changed = [name for name in source if name.startswith("heads.") and not torch.equal(source[name], target[name])]
    assert changed
    back = build_model(old)
    axes, _ = named_axes(old, new)
    take_over(back, target, "new", axes)
    assert all(torch.equal(value, source[name]) for name, value in back.state_dict().items())


def test_anchors_alternate_classes_and_boxes_of_regions_follow_class_by_class():
    source, target, _, _ = taken_over(recipe_of("retina", ["b", "a"]), recipe_of("retina", ["a", "b"]))
    name = next(name for name in target if name.endswith("score.bias"))
    assert torch.equal(target[name].view(-1, 2), source[name].view(-1, 2).flip(1))
    source, target, _, _ = taken_over(recipe_of("faster_rcnn", ["b", "a"]), recipe_of("faster_rcnn", ["a", "b"]))
    name = next(name for name in target if "detector" in name and name.endswith("delta.bias"))
    assert torch.equal(target[name].view(2, -1), source[name].view(2, -1).flip(0))


def test_equal_names_need_no_axes():
    assert named_axes(recipe_of("unet", ["a", "b"]), recipe_of("unet", ["a", "b"])) == ({}, [])


def test_other_intensity_and_spacing_are_said():
    old = recipe_of("unet", ["a"], spacing_mm=[1.0, 1.0], intensity={"type": "ct", "low": -100.0, "high": 200.0})
    same = recipe_of("unet", ["a"], spacing_mm=[1.0002, 1.0], intensity="ct")
    other = recipe_of("unet", ["a"], spacing_mm=[0.5, 0.5], intensity="zscore")
    assert preparation_differences(same, old) == []
    said = preparation_differences(other, old)
    assert [line.split(":")[0] for line in said] == ["intensity", "spacing_mm"]
    assert "[0.5, 0.5] here, but the weights were trained with [1.0, 1.0]" in said[1]
    assert preparation_differences(recipe_of("unet", ["a"], intensity="ct"), old)[0].startswith("spacing_mm: null here")
