"""A recipe of a few bytes may not ask for a model without end."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
import torch
from torch import nn

from cphloc.errors import InputError, RecipeError
from cphloc.modeling.build import build_model, check
from cphloc.modeling.limits import MAX_PARTS, limited
from cphloc.recipe import recipe as recipes

HUGE = {
    "convolutions": ("unet3d-hippocampus", {"model.backbone.convolutions": 10**9}),
    "widths": ("unet3d-hippocampus", {"model.backbone.widths": [10**9, 10**9]}),
    "levels": ("unet3d-hippocampus", {"model.backbone.widths": [1] * 9_000}),
    "patch": ("unet3d-hippocampus", {"data.patch": [10**9, 10**9, 10**9]}),
    "batch": ("unet3d-hippocampus", {"train.batch": 2**62}),
    "channels of a neck": ("retina2d-bloodcells", {"model.neck.channels": 10**12}),
    "convolutions of a head": ("retina2d-bloodcells", {"model.heads.boxes.convolutions": 10**9}),
}


@pytest.mark.parametrize(("name", "change"), HUGE.values(), ids=HUGE)
def test_a_model_without_end_is_refused_at_once(name: str, change: dict[str, Any]):
    check(recipes.load(name))  # imports libraries
    started = time.process_time()
    try:
        found = check(recipes.load(name, change))
    except (RecipeError, InputError) as error:
        found = [error]
    assert found
    assert all("\n" not in str(problem) for problem in found)
    assert time.process_time() - started < 5  # seconds; 2.3 on a slow machine, and hours without a limit


def test_parts_and_elements_are_counted():
    with limited(), pytest.raises(InputError, match=f"more than {MAX_PARTS:,} layers"):
        nn.Sequential(*(nn.Linear(1, 1) for _ in range(MAX_PARTS)))
    with limited(100), pytest.raises(InputError, match="more than 100 parameters"):
        nn.Linear(10, 10)
    nn.Sequential(*(nn.Linear(1, 1) for _ in range(3000)))  # the limits end with the block


def test_weights_that_are_smaller_than_the_model_are_refused_before_memory_is_used():
    recipe = recipes.load("unet3d-hippocampus", {"model.backbone.widths": [4, 8]})
    model = build_model(recipe)
    elements = sum(p.numel() for p in (*model.parameters(), *model.buffers()))
    assert isinstance(build_model(recipe, elements), nn.Module)
    with pytest.raises(InputError, match="which its weights file does not hold"):
        build_model(recipe, elements // 2)
    assert copy.deepcopy(model).state_dict().keys() == model.state_dict().keys()
    assert torch.isfinite(next(model.parameters())).all()
