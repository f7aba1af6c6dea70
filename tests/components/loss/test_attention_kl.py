from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from cphloc.components.loss.attention_kl import AttentionKL
from cphloc.ops.attention import log_softmax


def test_lecture_example():
    log_attention = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]).log()
    region = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    assert AttentionKL()(log_attention, region).item() == pytest.approx(0.5697171, abs=1e-6)
    uniform = region.flatten() / 2
    # Cross-entropy to the uniform map is the divergence plus the entropy log m.
    assert -(uniform * log_attention.flatten()).sum().item() == pytest.approx(1.2628643, abs=1e-6)
    assert AttentionKL()(log_attention, region).item() + math.log(2) == pytest.approx(1.2628643, abs=1e-6)


@pytest.mark.parametrize("grid", [(4, 5), (3, 4, 5)])
def test_equals_torch_and_is_zero_only_for_the_region_itself(grid):
    torch.manual_seed(0)
    log_attention, region = log_softmax(torch.randn(2, *grid)), torch.rand(2, *grid)
    wanted = region / region.flatten(1).sum(1).view(2, *(1,) * len(grid))
    oracle = F.kl_div(log_attention, wanted, reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(AttentionKL()(log_attention, region), oracle)
    torch.testing.assert_close(AttentionKL()(wanted.log(), region), torch.zeros(2), atol=1e-6, rtol=0)
