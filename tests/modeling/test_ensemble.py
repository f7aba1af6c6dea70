"""An ensemble predicts the mean of its members, in one pass over the windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cphloc.inference.localizer import Localizer
from cphloc.modeling.build import build_model
from cphloc.modeling.ensemble import averaged, member_weights
from cphloc.ops.targets import Detections, Prediction
from cphloc.recipe.recipe import load
from cphloc.zoo.weights import build_with_weights


def recipe(dims: int, members: int = 1):
    patch = [16] * dims
    heads = {
        "mask": {"type": "unet", "classes": {1: "mass"}, "loss": {"type": "dice_ce"}},
        "label": {"type": "gap", "classes": {1: "mass"}},
    }
    data = {"type": "phantom", "size": patch, "patch": patch}
    model = {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": heads, "members": members}
    return load({"task": "segmentation", "dims": dims, "data": data, "model": model})


def members_and_ensemble(dims: int, count: int = 3):
    members = []
    for seed in range(count):
        torch.manual_seed(seed)
        members.append(build_model(recipe(dims)).eval())
    weights = member_weights([member.state_dict() for member in members])
    return members, build_with_weights(recipe(dims, count), weights, "test").eval()


@pytest.mark.parametrize("dims", [2, 3])
def test_probabilities_are_the_mean_of_those_of_the_members(dims):
    members, ensemble = members_and_ensemble(dims)
    images = torch.randn(2, 1, *[16] * dims)
    with torch.no_grad():
        size = tuple(images.shape[2:])
        found = ensemble.decode(ensemble.outputs(images), size)
        each = [member.decode(member.outputs(images), size) for member in members]
    for head, part in (("mask", "mask_probabilities"), ("label", "label_probabilities"), ("label", "attention")):
        expected = np.mean([getattr(one[head], part).numpy() for one in each], axis=0)
        assert np.allclose(getattr(found[head], part).numpy(), expected, atol=1e-6)
    assert sum(p.numel() for p in ensemble.parameters()) == sum(p.numel() for m in members for p in m.parameters())


@pytest.mark.parametrize("dims", [2, 3])
def test_an_image_of_one_window_is_predicted_as_by_the_mean_of_the_members(dims):
    members, ensemble = members_and_ensemble(dims)
    image = np.random.default_rng(0).normal(size=[16] * dims).astype(np.float32)
    spacing = (1.0,) * dims
    joint, alone = Localizer(ensemble, recipe(dims, 3)), [Localizer(member, recipe(dims)) for member in members]
    maps = joint.predict_maps(joint.read(image, spacing))[1]
    each = [one.predict_maps(one.read(image, spacing))[1] for one in alone]
    assert np.allclose(maps, np.mean(each, axis=0), atol=1e-5)
    found = joint.predict(image, spacing)
    assert np.array_equal(found.masks, maps.argmax(0))
    expected = np.mean([one.predict(image, spacing).probabilities["mass"] for one in alone])
    assert found.probabilities["mass"] == pytest.approx(expected, abs=1e-6)


def test_every_window_is_read_once(monkeypatch):
    _, ensemble = members_and_ensemble(2)
    seen = []
    outputs = type(ensemble).outputs
    monkeypatch.setattr(type(ensemble), "outputs", lambda self, x: seen.append(tuple(x.shape)) or outputs(self, x))
    localizer = Localizer(ensemble, recipe(2, 3))
    localizer.predict(np.zeros((16, 40), np.float32), (1.0, 1.0))
    assert len(seen) == 4  # corners 0, 8, 16 and 24 of windows that overlap by half


def test_boxes_that_most_members_miss_lose_score():
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    found, none = (Detections(box[:n], torch.tensor([0.9])[:n], torch.tensor([1])[:n]) for n in (1, 0))
    merged = averaged([Prediction(detections=[one]) for one in (found, found, found)]).detections[0]
    assert merged.scores.tolist() == pytest.approx([0.9])
    assert merged.boxes.tolist() == box.tolist()
    merged = averaged([Prediction(detections=[one]) for one in (found, none, none)]).detections[0]
    assert merged.scores.tolist() == pytest.approx([0.3])
