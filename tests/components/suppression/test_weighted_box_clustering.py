from __future__ import annotations

import pytest
import torch

from cphloc.components.suppression.weighted_box_clustering import WeightedBoxClustering


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_that_agree_are_averaged_by_score_and_iou(dims):
    boxes = torch.tensor([[0.0] * dims + [2.0] * dims, [0.0] * dims + [2.0] * (dims - 1) + [1.0]])
    kept = WeightedBoxClustering(iou=0.3)(boxes, torch.tensor([0.9, 0.8]), torch.tensor([1, 1]))
    assert kept.scores.tolist() == pytest.approx([(0.9 + 0.5 * 0.8) / 1.5])
    far = (2 * 0.9 + 1 * 0.5 * 0.8) / (0.9 + 0.5 * 0.8)
    torch.testing.assert_close(kept.boxes, torch.tensor([[0.0] * dims + [2.0] * (dims - 1) + [far]]))
