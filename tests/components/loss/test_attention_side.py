from __future__ import annotations

import pytest
import torch

from cphloc.components.loss.attention_mass import AttentionMass
from cphloc.components.loss.attention_side import AttentionSide
from cphloc.components.loss.attention_side_sybil import AttentionSideSybil
from cphloc.ops.attention import log_softmax

GRIDS = [(3, 6), (3, 7), (2, 3, 6), (2, 3, 7)]


@pytest.mark.parametrize("grid", GRIDS)
def test_flipping_image_and_region_leaves_the_loss_but_flipping_one_does_not(grid):
    torch.manual_seed(0)
    log_attention, region = log_softmax(2 * torch.randn(1, *grid)), torch.zeros(1, *grid)
    region[..., 0] = 1
    loss = AttentionSide()
    torch.testing.assert_close(loss(log_attention.flip(-1), region.flip(-1)), loss(log_attention, region))
    assert not torch.allclose(loss(log_attention.flip(-1), region), loss(log_attention, region), atol=1e-3)


@pytest.mark.parametrize("grid", [(3, 6), (2, 3, 6)])
def test_equals_the_mass_inside_the_half_image(grid):
    torch.manual_seed(1)
    log_attention, half, box = log_softmax(torch.randn(1, *grid)), torch.zeros(1, *grid), torch.zeros(1, *grid)
    half[..., 3:], box[..., 4:5] = 1, 1
    torch.testing.assert_close(AttentionSide()(log_attention, box), AttentionMass()(log_attention, half))
    torch.testing.assert_close(AttentionSide()(log_attention, half), AttentionMass()(log_attention, half))


def test_mass_loss_reaches_zero_where_sybils_floor_is_0_3132617():
    all_upper = torch.tensor([[[0.0, 0.0, 0.5, 0.5]]]).clamp_min(1e-30).log()
    upper = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    assert AttentionSide()(all_upper, upper).item() == pytest.approx(0, abs=1e-6)
    assert AttentionSideSybil()(all_upper, upper).item() == pytest.approx(0.3132617, abs=1e-6)
