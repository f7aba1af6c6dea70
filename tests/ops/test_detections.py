from __future__ import annotations

import pytest
import torch

from cphloc.ops.detections import Suppression, best, joined, with_volume


def test_the_best_scores_name_their_row_and_class():
    scores = torch.tensor([[0.1, 0.9], [0.6, 0.2], [0.05, 0.05]])
    rows, classes, values = best(scores, threshold=0.05, limit=3)
    assert rows.tolist() == [0, 1, 1]
    assert classes.tolist() == [2, 1, 2]
    assert values.tolist() == pytest.approx([0.9, 0.6, 0.2])
    assert [len(x) for x in best(scores[:0], 0.0, 10)] == [0, 0, 0]


METHODS = ["nms", "soft_nms_linear", "soft_nms_gaussian", "weighted_box_clustering"]


@pytest.mark.parametrize("dims", [2, 3])
def test_levels_are_joined_suppressed_and_cut_to_the_limit(dims):
    box = torch.tensor([[0.0] * dims + [4.0] * dims])
    one = torch.ones(1, dtype=torch.int64)
    fine = (torch.cat([box, box + 20]), torch.tensor([0.5, 0.3]), one.repeat(2))
    coarse = (torch.cat([box, box]), torch.tensor([0.9, 0.4]), torch.tensor([1, 2]))
    found = Suppression()(*joined([fine, coarse]))
    assert found.scores.tolist() == pytest.approx([0.9, 0.4, 0.3])
    assert found.classes.tolist() == [1, 2, 1]
    assert len(Suppression(limit=2)(*joined([fine, coarse]))) == 2


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_boxes_without_volume_are_no_detections(dims, method):
    boxes = torch.tensor([[1.0] * (2 * dims), [0.0] * dims + [1.0] * dims])
    scores, classes = torch.tensor([0.9, 0.2]), torch.tensor([1, 1])
    assert with_volume(boxes, scores, classes).scores.tolist() == pytest.approx([0.2])
    assert Suppression(method)(boxes, scores, classes).scores.tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("method", "scores"),
    [
        ("nms", [0.9]),
        ("soft_nms_linear", [0.9, 0.4]),
        ("soft_nms_gaussian", [0.9, 0.485225]),
        ("weighted_box_clustering", [(0.9 + 0.5 * 0.8) / 1.5]),
    ],
)
def test_a_second_object_at_iou_one_half_survives_only_soft_suppression(dims, method, scores):
    boxes = torch.tensor([[0.0] * dims + [2.0] * dims, [0.0] * dims + [2.0] * (dims - 1) + [1.0]])
    found = Suppression(method, threshold=0.3)(boxes, torch.tensor([0.9, 0.8]), torch.tensor([1, 1]))
    assert found.scores.tolist() == pytest.approx(scores, abs=1e-6)
    if "soft" in method:
        assert torch.equal(found.boxes, boxes)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_classes_leave_each_other_alone(dims, method):
    same = torch.tensor([[0.0] * dims + [2.0] * dims]).repeat(2, 1)
    found = Suppression(method)(same, torch.tensor([0.8, 0.9]), torch.tensor([1, 2]))
    assert found.classes.tolist() == [2, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_of_nothing_nothing_is_left(dims, method):
    none = torch.zeros(0)
    found = Suppression(method)(torch.zeros(0, 2 * dims), none, none.long())
    assert found.boxes.shape == (0, 2 * dims)
    assert len(found) == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_a_score_lowered_to_the_threshold_is_dropped(dims):
    same = torch.tensor([[0.0] * dims + [2.0] * dims]).repeat(2, 1)
    scores, one = torch.tensor([0.9, 0.8]), torch.tensor([1, 1])
    assert len(Suppression("soft_nms_linear", score_threshold=0.0)(same, scores, one)) == 1
    decayed = 0.8 * torch.tensor(-2.0).exp().item()
    assert len(Suppression("soft_nms_gaussian", score_threshold=decayed - 0.01)(same, scores, one)) == 2
    assert len(Suppression("soft_nms_gaussian", score_threshold=decayed + 0.01)(same, scores, one)) == 1
