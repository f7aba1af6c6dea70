from __future__ import annotations

import pytest
import torch
from torch import nn

from cphloc.ops.labels import CumulativeHazard, label_layer, label_loss


def test_risk_never_falls_over_the_years_whatever_the_weights():
    torch.manual_seed(0)
    for _ in range(20):
        risk = CumulativeHazard(5, 6)(10 * torch.randn(8, 5)).sigmoid()
        assert (risk.diff(dim=1) >= 0).all()


def test_hazard_logits_equal_base_plus_cumulated_positive_increments():
    layer = CumulativeHazard(2, 3)
    with torch.no_grad():
        layer.base.weight.zero_()
        layer.base.bias.fill_(-1.0)
        layer.hazard.weight.zero_()
        layer.hazard.bias.copy_(torch.tensor([0.5, -4.0, 2.0]))
    torch.testing.assert_close(layer(torch.zeros(1, 2)), torch.tensor([[-0.5, -0.5, 1.5]]))


def test_output_kinds():
    assert isinstance(label_layer("labels", 3, 2), nn.Linear)
    assert isinstance(label_layer("hazard", 3, 2), CumulativeHazard)


def test_unknown_labels_have_neither_loss_nor_gradient():
    logits = torch.randn(3, 2, requires_grad=True)
    labels = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan], [0.0, 1.0]])
    loss = label_loss(logits, labels)
    loss.backward()
    known = [
        nn.functional.binary_cross_entropy_with_logits(logits[i, j], labels[i, j]) for i, j in [(0, 0), (2, 0), (2, 1)]
    ]
    assert loss.item() == pytest.approx(sum(known).item() / 3)
    assert logits.grad[1].abs().max() == 0
    assert logits.grad[0, 1] == 0


def test_batch_without_any_label_gives_a_zero_that_carries_the_graph():
    logits = torch.randn(2, 2, requires_grad=True)
    loss = label_loss(logits, torch.full((2, 2), torch.nan))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0
