"""Attention as an explanation, of a network whose attention and probabilities are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from columns import columns

from cphloc.components.head.attention_pool import AttentionPool
from cphloc.errors import InputError
from cphloc.evaluation.evaluate import evaluate
from cphloc.evaluation.explanation import Explainer, randomized
from cphloc.inference.localizer import Localizer
from cphloc.metrics.explanation import METHODS, METRICS, SANITY
from cphloc.modeling.model import Model
from cphloc.structures.levels import Level

CLASSES = {1: "mass", 2: "cyst"}
SEEN, UNSEEN = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(4))
both = pytest.mark.parametrize("dims", [2, 3])
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def explained(hand_made):
    """A model that attends to voxels of value 1 evenly, and gives `SEEN` for the mass where there is one."""

    def make(dims, rows):
        localizer = hand_made(rows)
        head = AttentionPool((Level(1, (1,) * dims),), classes=CLASSES)
        with torch.no_grad():
            head.score.weight.fill_(30.0)
            head.score.bias.zero_()
            layer = next(layer for layer in head.labels.modules() if isinstance(layer, torch.nn.Linear))
            layer.weight.copy_(torch.tensor([[8.0], [0.0]]))
            layer.bias.fill_(-4.0)
        return Localizer(Model(localizer.model.backbone, None, {"finding": head}), localizer.recipe)

    return make


def rows(dims, test, mask):
    left = columns(dims, 1, 1, 0, 0, 0, 0, 0, 0)
    of = [("train", left, left), ("val", left, left), ("test", test, mask)]
    return [
        {"case": s, "patient": s, "split": s, "image": image, "mask": m.astype(np.uint8), "label": "mass"}
        for s, image, m in of
    ]


def area(voxels, value_of):
    """Area under a function of the number of changed voxels, in ten steps."""
    limits = [round(voxels * k / 10) for k in range(11)]
    return np.trapezoid([value_of(n) for n in limits], np.array(limits) / voxels)


@both
def test_every_map_of_a_known_network_has_the_scores_that_follow_from_it(explained, dims, tmp_path):
    object_, voxels = columns(dims, 0, 0, 0, 0, 0, 0, 1, 1), 8**dims
    page = tmp_path / "page.html"
    done = evaluate(explained(dims, rows(dims, object_, object_)), explanations=True, report=page)
    found = done.facts["explanation"]
    assert found["cases"] == 1
    assert set(found["methods"]) == set(METHODS)
    inside = voxels // 4
    expected = {
        "pointing": 1.0,
        "attention_mass": 1.0,
        "deletion": area(voxels, lambda n: SEEN if n < inside else UNSEEN),
        "insertion": area(voxels, lambda n: SEEN if n else UNSEEN),
    }
    for method in ("attention", "grad-cam"):
        assert {k: v["value"] for k, v in found["methods"][method].items()} == pytest.approx(expected, abs=1e-4)
    assert "Attention as an explanation" in page.read_text(encoding="utf-8")
    assert {k: v["value"] for k, v in found["paired"]["grad-cam"].items()} == pytest.approx(
        dict.fromkeys(METRICS, 0.0), abs=1e-6
    )


@both
def test_a_map_beside_the_object_does_not_point_at_it(explained, dims):
    image, mask = columns(dims, 0, 0, 0, 0, 0, 1, 1, 0), columns(dims, 0, 0, 0, 0, 0, 0, 1, 1)
    found = evaluate(explained(dims, rows(dims, image, mask)), explanations=True).facts["explanation"]
    own = {k: v["value"] for k, v in found["methods"]["attention"].items()}
    assert own["pointing"] == 0
    assert own["attention_mass"] == pytest.approx(0.5, abs=1e-4)


@both
def test_occlusion_shows_the_one_window_on_which_the_probability_rests(explained, dims):
    image = np.zeros((8,) * dims, np.float32)
    image[(5,) * dims] = 1
    localizer = explained(dims, rows(dims, image, image))
    taken = torch.from_numpy(image)[None]
    found = Explainer(localizer.model).occlusion(taken, 0, torch.zeros_like(taken))
    assert found[(5,) * dims] == pytest.approx(1, abs=1e-5)


@both
def test_random_weights_are_others_and_those_of_the_model_stay(explained, dims):
    image = columns(dims, 0, 0, 0, 0, 0, 0, 1, 1)
    localizer = explained(dims, rows(dims, image, image))
    before = localizer.model.heads["finding"].score.weight.clone()
    blind = randomized(localizer.model)
    assert not torch.equal(blind.heads["finding"].score.weight, before)
    assert torch.equal(localizer.model.heads["finding"].score.weight, before)
    assert torch.equal(randomized(localizer.model).heads["finding"].score.weight, blind.heads["finding"].score.weight)
    found = evaluate(localizer, explanations=True).facts["explanation"]
    assert abs(found[SANITY]["value"]) <= 1


def test_a_model_without_attention_is_refused(hand_made):
    image = columns(2, 0, 0, 0, 0, 0, 0, 1, 1)
    with pytest.raises(InputError, match="no head that gives labels and attention"):
        evaluate(hand_made(rows(2, image, image)), explanations=True)


def test_explanations_on_another_folder_are_refused(hand_made, tmp_path):
    image = columns(2, 0, 0, 0, 0, 0, 0, 1, 1)
    with pytest.raises(InputError, match="omit --root"):
        evaluate(hand_made(rows(2, image, image)), root=str(tmp_path), explanations=True)
