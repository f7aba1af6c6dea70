from __future__ import annotations

import torch

from cphloc.ops.sampling import balanced, hard_negatives


def test_hard_negatives_are_the_highest_scored_ones_three_per_positive():
    scores, positive = torch.arange(10.0), torch.zeros(10, dtype=torch.bool)
    positive[9] = True
    assert hard_negatives(scores, positive, ratio=3).nonzero()[:, 0].tolist() == [6, 7, 8]


def test_hard_negatives_never_exceed_what_there_is():
    positive = torch.tensor([True, False, True])
    assert hard_negatives(torch.zeros(3), positive, ratio=9, pool=20).tolist() == [False, True, False]
    assert hard_negatives(torch.zeros(2), torch.ones(2, dtype=torch.bool), ratio=3).sum() == 0


def test_balanced_limits_positives_and_never_draws_ignored_entries():
    labels = torch.cat([torch.ones(50), torch.zeros(500), -torch.ones(50)])
    drawn = balanced(labels, 64, 0.25)
    assert (labels[drawn] > 0).sum() == 16
    assert (labels[drawn] == 0).sum() == 48
    assert len(drawn.unique()) == 64


def test_balanced_fills_up_with_negatives_where_positives_are_few():
    drawn = balanced(torch.tensor([0.0, 3, 0, 0, -1, 0]), 4, 0.5)
    assert drawn[0] == 1
    assert len(drawn) == 4


def test_balanced_of_nothing_is_empty():
    assert balanced(torch.zeros(0), 8, 0.5).tolist() == []
