from __future__ import annotations

import pytest
import torch

from cphloc.components.loss.attention_side_sybil import AttentionSideSybil


@pytest.mark.parametrize("lead", [(1,), (3, 2)])
@pytest.mark.parametrize(
    ("lower", "upper", "value"), [(0, 1, 0.3132617), (0.5, 0.5, 0.6931472), (1, 0, 1.3132617), (0.1, 0.9, 0.3711007)]
)
def test_softmax_of_probabilities_as_published(lead, lower, upper, value):
    cells = torch.tensor([lower, 0.0, 0.0, upper]).expand(*lead, 4) / torch.Size(lead).numel()
    region = torch.zeros(1, *lead, 4)
    region[..., 2:] = 1
    loss = AttentionSideSybil()(cells.clamp_min(1e-30).log()[None], region)
    assert loss.item() == pytest.approx(value, abs=1e-6)


def test_extra_column_of_an_odd_width_belongs_to_the_upper_side():
    middle = torch.tensor([[[0.0, 1.0, 0.0]]]).clamp_min(1e-30).log()
    upper = torch.tensor([[[0.0, 0.0, 1.0]]])
    assert AttentionSideSybil()(middle, upper).item() == pytest.approx(0.3132617, abs=1e-6)


def test_flipping_the_side_swaps_right_and_wrong():
    attention = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]]).clamp_min(1e-30).log()
    upper = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    loss = AttentionSideSybil()
    assert loss(attention, upper.flip(-1)).item() == pytest.approx(1.3132617, abs=1e-6)
    torch.testing.assert_close(loss(attention.flip(-1), upper.flip(-1)), loss(attention, upper))


def test_case_without_side_costs_nothing():
    attention = torch.full((1, 2, 4), 1 / 8).log().requires_grad_()
    loss = AttentionSideSybil()(attention, torch.ones(1, 2, 4))
    loss.sum().backward()
    assert loss.item() == 0
    assert attention.grad.abs().max() == 0
