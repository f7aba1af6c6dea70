from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from cphloc.components.loss.attention_kl import AttentionKL
from cphloc.components.loss.attention_mass import AttentionMass
from cphloc.ops.attention import log_softmax

GRIDS = [(4, 5), (3, 4, 5)]


def random_case(grid: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(grid))
    scores = 2 * torch.randn(1, *grid, generator=generator)
    region = (torch.rand(1, *grid, generator=generator) < 0.3).float()
    return scores, region


def test_lecture_example_and_its_gradient():
    scores = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]).log().requires_grad_()
    loss = AttentionMass()(log_softmax(scores), torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))
    assert loss.item() == pytest.approx(0.5108256, abs=1e-6)
    loss.sum().backward()
    expected = torch.tensor([[[0.1, -0.13333], [0.3, -0.26667]]])
    torch.testing.assert_close(scores.grad, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("grid", GRIDS)
def test_property_1_zero_when_all_mass_is_inside_and_log_n_over_m_when_even(grid):
    scores, region = random_case(grid)
    inside = log_softmax(scores.masked_fill(region == 0, -1e4))
    assert AttentionMass()(inside, region).item() == pytest.approx(0, abs=1e-6)
    even = AttentionMass()(log_softmax(torch.zeros_like(scores)), region)
    assert even.item() == pytest.approx(math.log(region.numel() / region.sum()), abs=1e-5)
    assert AttentionMass()(log_softmax(scores), region).item() > 0


@pytest.mark.parametrize("grid", GRIDS)
def test_property_2_gradient_is_attention_minus_its_share_inside(grid):
    scores, region = random_case(grid)
    scores.requires_grad_()
    AttentionMass()(log_softmax(scores), region).sum().backward()
    attention = log_softmax(scores.detach()).exp()
    share = attention * region / (attention * region).sum()
    torch.testing.assert_close(scores.grad, attention - share, atol=1e-6, rtol=1e-4)
    assert scores.grad.sum().item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_property_3_is_the_smallest_divergence_from_anything_inside(grid):
    scores, region = random_case(grid)
    log_attention = log_softmax(scores)
    log_inside = log_attention[region > 0].double().numpy()

    def divergence(logits):
        log_q = torch.tensor(logits).log_softmax(0)
        return float((log_q.exp() * (log_q - torch.tensor(log_inside))).sum())

    smallest = minimize(divergence, np.zeros(len(log_inside)), tol=1e-10).fun
    mass = AttentionMass()(log_attention, region).item()
    assert mass == pytest.approx(smallest, abs=1e-5)
    assert mass <= AttentionKL()(log_attention, region).item() + 1e-6


@pytest.mark.parametrize("grid", GRIDS)
def test_property_4_moving_mass_inside_the_region_changes_nothing(grid):
    scores, region = random_case(grid)
    attention = log_softmax(scores).exp()
    inside = attention[region > 0]
    moved = attention.clone()
    moved[region > 0] = inside.roll(1)
    heaped = attention * (1 - region)
    heaped.view(-1)[region.flatten().argmax()] = inside.sum()
    loss = AttentionMass()
    torch.testing.assert_close(loss(moved.log(), region), loss(attention.log(), region))
    torch.testing.assert_close(loss(heaped.clamp_min(1e-30).log(), region), loss(attention.log(), region))


def test_union_is_content_with_one_of_two_boxes_but_per_box_wants_both():
    boxes = [torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]])]
    region = boxes[0].amax(0, keepdim=True)
    on_one = torch.tensor([[0.5, 0.5, 0, 0, 0, 0]]).clamp_min(1e-30).log()
    on_both = torch.tensor([[0.25, 0.25, 0, 0, 0.25, 0.25]]).clamp_min(1e-30).log()
    assert AttentionMass()(on_one, region, boxes).item() == pytest.approx(0, abs=1e-6)
    per_box = AttentionMass("per_box")
    assert per_box(on_both, region, boxes).item() == pytest.approx(math.log(2), abs=1e-6)
    assert per_box(on_one, region, boxes).item() > 30


def test_minimum_per_box_over_disjoint_boxes_is_log_of_their_number():
    boxes = torch.zeros(3, 2, 6)
    boxes[0, :, :2], boxes[1, :, 2:4], boxes[2, :, 4:] = 1, 1, 1
    scores = torch.zeros(1, 2, 6, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=50)

    def step():
        optimizer.zero_grad()
        loss = AttentionMass("per_box")(log_softmax(scores), boxes.amax(0, keepdim=True), [boxes]).sum()
        loss.backward()
        return loss

    assert optimizer.step(step).item() >= math.log(3) - 1e-6
    assert step().item() == pytest.approx(math.log(3), abs=1e-5)


def test_per_box_case_without_boxes_or_with_boxes_off_the_grid_uses_its_region():
    log_attention = log_softmax(torch.randn(2, 3, 4))
    region = torch.zeros(2, 3, 4)
    region[:, 0] = 1
    per_box = AttentionMass("per_box")(log_attention, region, [torch.zeros(0, 3, 4), torch.zeros(1, 3, 4)])
    torch.testing.assert_close(per_box, AttentionMass()(log_attention, region))
