from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cphloc.errors import RecipeError
from cphloc.recipe.recipe import load
from cphloc.training.weight_average import Ema, Swa


@pytest.mark.parametrize("decay", [0.15, 0.999])
def test_the_average_equals_the_recursion_by_hand(decay):
    model = nn.BatchNorm1d(1)
    ema = Ema(model, decay)
    expected = 1.0
    for t, weight in enumerate([3.0, -1.0, 2.0], start=1):
        nn.init.constant_(model.weight, weight)
        model.num_batches_tracked.fill_(t)
        ema.update(model)
        d = min(decay, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * weight
    assert ema.state["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert ema.state["num_batches_tracked"].item() == 3
    assert model.weight.item() == 2.0


def test_the_average_shares_no_memory_with_the_model():
    model = nn.Linear(2, 2)
    ema = Ema(model, 0.9)
    before = ema.state["weight"].clone()
    nn.init.zeros_(model.weight)
    assert torch.equal(ema.state["weight"], before)


@pytest.mark.parametrize(("share", "expected"), [(0.5, [1, 2, 3, 4, 5, 5.5, 6, 6.5]), (1.0, None), (0.1, None)])
def test_swa_is_the_mean_of_the_weights_of_the_last_steps_and_before_the_weights(share, expected):
    model = nn.Linear(1, 1, bias=False)
    swa, steps, found = Swa(model, share), 8, []
    for step in range(1, steps + 1):
        nn.init.constant_(model.weight, step)
        swa.update(model, step / steps)
        found.append(swa.state["weight"].item())
    first = {0.5: 5, 1.0: 1, 0.1: 8}[share]
    by_hand = [step if step < first else float(np.mean(range(first, step + 1))) for step in range(1, steps + 1)]
    assert found == pytest.approx(expected or by_hand)


def test_a_recipe_takes_one_average():
    train = {"train.ema": 0.9, "train.swa": 0.5}
    with pytest.raises(RecipeError, match=r"train.swa: train.ema averages the weights already; set one of the two"):
        load("unet2d-phantom", train)
    assert load("unet2d-phantom", train | {"train.ema": None}).train.swa == 0.5
