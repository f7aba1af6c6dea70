from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from cphloc.components.loss.smooth_l1 import SmoothL1


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("beta", [1.0, 1 / 9, 0.0])
def test_equals_torch_summed_over_coordinates(dims, beta):
    a, b = torch.randn(9, 2 * dims) * 2, torch.randn(9, 2 * dims)
    expected = functional.smooth_l1_loss(a, b, beta=beta, reduction="none").sum(dim=1)
    assert_close(SmoothL1(beta)(a, b), expected)


def test_the_gradient_at_zero_is_finite_without_beta():
    x = torch.zeros(1, 4, requires_grad=True)
    SmoothL1(0)(x, torch.zeros(1, 4)).sum().backward()
    assert torch.isfinite(x.grad).all()
