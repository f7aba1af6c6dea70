from __future__ import annotations

import pytest
import torch

from cphloc.ops.detections import best, from_levels, suppressed


def test_the_best_scores_name_their_row_and_class():
    scores = torch.tensor([[0.1, 0.9], [0.6, 0.2], [0.05, 0.05]])
    rows, classes, values = best(scores, threshold=0.05, limit=3)
    assert rows.tolist() == [0, 1, 1]
    assert classes.tolist() == [2, 1, 2]
    assert values.tolist() == pytest.approx([0.9, 0.6, 0.2])
    assert [len(x) for x in best(scores[:0], 0.0, 10)] == [0, 0, 0]


@pytest.mark.parametrize("dims", [2, 3])
def test_levels_are_joined_suppressed_and_cut_to_the_limit(dims):
    box = torch.tensor([[0.0] * dims + [4.0] * dims])
    one = torch.ones(1, dtype=torch.int64)
    fine = (torch.cat([box, box + 20]), torch.tensor([0.5, 0.3]), one.repeat(2))
    coarse = (torch.cat([box, box]), torch.tensor([0.9, 0.4]), torch.tensor([1, 2]))
    found = from_levels([fine, coarse], threshold=0.5, limit=100)
    assert found.scores.tolist() == pytest.approx([0.9, 0.4, 0.3])
    assert found.classes.tolist() == [1, 2, 1]
    assert len(from_levels([fine, coarse], 0.5, limit=2)) == 2


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_boxes_without_volume_are_no_detections(dims, threshold):
    boxes = torch.tensor([[1.0] * (2 * dims), [0.0] * dims + [1.0] * dims])
    found = suppressed(boxes, torch.tensor([0.9, 0.2]), torch.tensor([1, 1]), threshold, 10)
    assert found.scores.tolist() == pytest.approx([0.2])
