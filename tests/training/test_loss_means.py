"""Logged losses are means over cases, whatever the micro-batches, and survive a checkpoint."""

from __future__ import annotations

import json

import pytest
import torch

from cphloc.training.loss_means import LossMeans


def sent(means, weights=None):
    return means.values(torch.clone, {"mask": 1.0, "boxes": 0.5} if weights is None else weights)


def test_every_case_counts_the_same():
    per_case = [0.9, 0.3, 0.6]
    whole, parts = LossMeans(), LossMeans()
    whole.add({"mask/dice": torch.tensor(sum(per_case) / 3)}, {"mask/dice": 3})
    parts.add({"mask/dice": torch.tensor((0.9 + 0.3) / 2)}, {"mask/dice": 2})
    parts.add({"mask/dice": torch.tensor(0.0)}, {"mask/dice": 0})
    parts.add({"mask/dice": torch.tensor(0.6)}, {"mask/dice": 1})
    assert sent(whole) == pytest.approx({"mask/dice": 0.6, "loss": 0.6})
    assert sent(parts) == pytest.approx(sent(whole))


def test_a_loss_without_cases_is_left_out():
    means = LossMeans()
    means.add(
        {"loss": torch.tensor(0.4), "mask/dice": torch.tensor(0.4), "boxes/score": torch.tensor(0.0)},
        {"mask/dice": 1, "boxes/score": 0},
    )
    assert sent(means) == pytest.approx({"mask/dice": 0.4, "loss": 0.4})
    assert LossMeans().values(torch.clone, {}) == {}


def test_a_checkpoint_between_two_entries_of_the_log_changes_nothing():
    uncut, before = LossMeans(), LossMeans()
    for means in (uncut, before):
        means.add({"loss": torch.tensor(0.1)}, {})
    again = LossMeans.restored(json.loads(json.dumps(before.to_plain(torch.clone))))
    for means in (uncut, again):
        means.add({"loss": torch.tensor(0.7)}, {})
    assert sent(again, {}) == sent(uncut, {})
    assert sent(again, {}) == pytest.approx({"loss": 0.4})
