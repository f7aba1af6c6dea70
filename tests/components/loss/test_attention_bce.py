from __future__ import annotations

import math

import pytest
import torch

from cphloc.components.loss.attention_bce import AttentionBCE
from cphloc.ops.attention import log_softmax

LECTURE = (torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]).log(), torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))


@pytest.mark.parametrize(("reduction", "value"), [("sum", 2.9877641), ("mean", 0.7469410), ("region", 2.9877641 / 2)])
def test_lecture_example(reduction, value):
    assert AttentionBCE(reduction)(*LECTURE).item() == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(
    ("grid", "size", "floor"), [((4, 4), 2, 1.3862944), ((4, 8), 8, 16.6355323), ((4, 8, 8), 64, 266.168517)]
)
def test_no_good_solution_optimised_minimum_is_m_log_m_at_the_even_map(grid, size, floor):
    region = torch.zeros(1, math.prod(grid))
    region[0, :size] = 1
    region = region.view(1, *grid)
    torch.manual_seed(0)
    scores = torch.randn(1, *grid, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [scores], max_iter=400, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def step():
        optimizer.zero_grad()
        loss = AttentionBCE()(log_softmax(scores), region).sum()
        loss.backward()
        return loss

    optimizer.step(step)
    assert step().item() == pytest.approx(floor, rel=2e-4)
    assert step().item() >= floor * (1 - 1e-6)
    inside = log_softmax(scores.detach()).exp()[region > 0]
    torch.testing.assert_close(inside, torch.full((size,), 1 / size), atol=2e-3, rtol=0)


def test_all_attention_in_one_cell_stays_finite_with_a_finite_gradient():
    scores = torch.tensor([[500.0, 0.0, 0.0]], requires_grad=True)
    loss = AttentionBCE()(log_softmax(scores), torch.tensor([[0.0, 1.0, 0.0]]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert scores.grad.isfinite().all()
