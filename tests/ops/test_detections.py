from __future__ import annotations

import pytest
import torch

from cphloc.ops.detections import best, joined, with_volume


def test_the_best_scores_name_their_row_and_class():
    scores = torch.tensor([[0.1, 0.9], [0.6, 0.2], [0.05, 0.05]])
    rows, classes, values = best(scores, threshold=0.05, limit=3)
    assert rows.tolist() == [0, 1, 1]
    assert classes.tolist() == [2, 1, 2]
    assert values.tolist() == pytest.approx([0.9, 0.6, 0.2])
    assert len(best(scores, threshold=0.05)[0]) == 4
    assert [len(x) for x in best(scores[:0], 0.0, 10)] == [0, 0, 0]


@pytest.mark.parametrize("dims", [2, 3])
def test_parts_are_joined_and_boxes_without_volume_dropped(dims):
    flat, real = torch.tensor([[1.0] * (2 * dims)]), torch.tensor([[0.0] * dims + [1.0] * dims])
    parts = [(box, torch.tensor([score]), torch.tensor([1])) for box, score in ((flat, 0.9), (real, 0.2))]
    assert with_volume(*joined(parts)).scores.tolist() == pytest.approx([0.2])
