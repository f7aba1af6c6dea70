from __future__ import annotations

import math

import pytest
import torch

from cphloc.components.loss.attention_mse import AttentionMSE
from cphloc.ops.attention import log_softmax

LECTURE = (torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]).log(), torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))


def test_lecture_example():
    assert AttentionMSE(reduction="mean")(*LECTURE).item() == pytest.approx(0.275, abs=1e-6)
    assert AttentionMSE("uniform", "mean")(*LECTURE).item() == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize(("grid", "size", "floor"), [((4, 4), 2, 0.5), ((4, 8), 8, 6.125), ((4, 8, 8), 64, 62.015625)])
def test_no_good_solution_optimised_minimum_is_m_minus_1_squared_over_m(grid, size, floor):
    region = torch.zeros(1, math.prod(grid))
    region[0, :size] = 1
    region = region.view(1, *grid)
    scores = torch.zeros(1, *grid, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [scores], max_iter=300, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def step():
        optimizer.zero_grad()
        loss = AttentionMSE()(log_softmax(scores), region).sum()
        loss.backward()
        return loss

    optimizer.step(step)
    assert step().item() == pytest.approx(floor, rel=1e-4)


def test_even_map_over_the_region_is_the_optimum_of_the_uniform_target():
    region = torch.zeros(1, 3, 4)
    region[0, 1] = 1
    even = (region / 4).clamp_min(1e-30).log()
    assert AttentionMSE("uniform")(even, region).item() == pytest.approx(0, abs=1e-10)
