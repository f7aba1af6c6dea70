from __future__ import annotations

import torch
from torch.testing import assert_close

from cphloc.components.loss.bce import BCE
from cphloc.components.loss.hard_negative_bce import HardNegativeBCE


def test_only_positives_and_the_hardest_negatives_count():
    logits = torch.tensor([[-1.0, 3.0, -4.0], [0.5, 2.0, -6.0]])
    targets = torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    loss = HardNegativeBCE(ratio=2)(logits, targets)
    counted = torch.tensor([[1.0, 1, 0], [0, 1, 0]])
    assert_close(loss, BCE()(logits, targets) * counted)


def test_without_any_object_the_hardest_still_count():
    loss = HardNegativeBCE(minimum=2)(torch.tensor([0.0, 1.0, 2.0]), torch.zeros(3))
    assert (loss > 0).tolist() == [False, True, True]


def test_a_pool_draws_among_the_hardest_only():
    logits = torch.arange(20.0)
    targets = torch.zeros(20)
    counts = torch.stack([HardNegativeBCE(minimum=2, pool=3)(logits, targets) > 0 for _ in range(50)]).sum(dim=0)
    assert counts[:14].sum() == 0
    assert (counts[14:] > 0).all()
    assert counts.sum() == 100


def test_no_elements_are_fine():
    assert HardNegativeBCE()(torch.zeros(0, 2), torch.zeros(0, 2)).shape == (0, 2)
