from __future__ import annotations

import math

import pytest
import torch

from cphloc.components.suppression.soft_nms import SoftNMS

both = pytest.mark.parametrize("dims", [2, 3])


@both
@pytest.mark.parametrize(("kernel", "second"), [("linear", 0.8 * 0.5), ("gaussian", 0.8 * math.exp(-0.25 / 0.5))])
def test_a_second_object_at_iou_one_half_survives_with_a_lower_score(dims, kernel, second):
    boxes = torch.tensor([[0.0] * dims + [2.0] * dims, [0.0] * dims + [2.0] * (dims - 1) + [1.0]])
    kept = SoftNMS(kernel, iou=0.3)(boxes, torch.tensor([0.9, 0.8]), torch.tensor([1, 1]))
    assert kept.scores.tolist() == pytest.approx([0.9, second])
    assert torch.equal(kept.boxes, boxes)


@both
def test_a_score_that_falls_to_the_threshold_is_dropped(dims):
    same = torch.tensor([[0.0] * dims + [2.0] * dims]).repeat(2, 1)
    scores, one = torch.tensor([0.9, 0.8]), torch.tensor([1, 1])
    assert len(SoftNMS("linear", score=0.0)(same, scores, one)) == 1
    fallen = 0.8 * math.exp(-1 / 0.25)
    assert len(SoftNMS(sigma=0.25, score=fallen - 0.001)(same, scores, one)) == 2
    assert len(SoftNMS(sigma=0.25, score=fallen + 0.001)(same, scores, one)) == 1
