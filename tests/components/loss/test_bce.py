from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from cphloc.components.loss.bce import BCE


def test_equals_torch_and_weighs_what_is_present():
    logits, targets = torch.randn(4, 3), torch.randint(0, 2, (4, 3)).float()
    plain = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    assert_close(BCE()(logits, targets), plain)
    assert_close(BCE(positive_weight=5)(logits, targets), torch.where(targets > 0, 5 * plain, plain))


@pytest.mark.parametrize(("probability", "expected"), [(0.9, 0.105361), (0.5, 0.693147), (0.01, 4.60517)])
def test_a_present_object_costs_the_log_of_its_probability(probability, expected):
    logit = torch.tensor([probability]).logit()
    assert BCE()(logit, torch.ones(1)).item() == pytest.approx(expected, rel=1e-5)


def test_half_precision_logits_give_a_float32_loss():
    assert BCE()(torch.tensor([-40.0]).half(), torch.tensor([1.0])).item() == 40
