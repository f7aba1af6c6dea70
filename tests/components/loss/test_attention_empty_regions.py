"""The rule all attention losses share: an empty region says nothing."""

from __future__ import annotations

import pytest
import torch

from cphloc.components.loss.attention_bce import AttentionBCE
from cphloc.components.loss.attention_kl import AttentionKL
from cphloc.components.loss.attention_mass import AttentionMass
from cphloc.components.loss.attention_mse import AttentionMSE
from cphloc.components.loss.attention_side import AttentionSide
from cphloc.components.loss.attention_side_sybil import AttentionSideSybil
from cphloc.ops.attention import log_softmax

LOSSES = [
    AttentionMass(),
    AttentionMass("per_box"),
    AttentionKL(),
    AttentionBCE(),
    AttentionBCE("region"),
    AttentionMSE(),
    AttentionMSE("uniform"),
    AttentionSide(),
    AttentionSideSybil(),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 4)])
def test_empty_regions_give_zero_and_exactly_zero_gradient_beside_marked_ones(loss, grid):
    torch.manual_seed(0)
    scores = torch.randn(3, *grid, requires_grad=True)
    region = torch.zeros(3, *grid)
    region[1, ..., :1] = 1
    boxes = [torch.zeros(0, *grid), region[1:2], torch.zeros(0, *grid)]
    losses = loss(log_softmax(scores), region, boxes)
    losses.sum().backward()
    assert losses.shape == (3,)
    assert losses[0] == 0
    assert losses[2] == 0
    assert losses[1] > 0
    assert scores.grad[0].abs().max() == 0
    assert scores.grad[2].abs().max() == 0
    assert scores.grad[1].abs().max() > 0


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_value_in_half_precision_equals_float32(loss):
    log_attention = log_softmax(torch.randn(2, 3, 4)).half()
    region = torch.zeros(2, 3, 4)
    region[:, :, :1] = 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = loss(log_attention, region.half(), [region[:1], region[1:]])
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss(log_attention.float(), region, [region[:1], region[1:]]))
