from __future__ import annotations

import pytest
import torch
from torch import nn

from cphloc.training.ema import Ema


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
