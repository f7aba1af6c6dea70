from __future__ import annotations

import pytest
import torch
import torchvision
from torch.testing import assert_close

from cphloc.errors import InputError
from cphloc.ops.boxes import from_centre_size, overlap_matrix
from cphloc.ops.nms import nms, soft_nms


def crowd(n: int, dims: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes of mixed sizes, some of them huge, some with equal scores, some at negative coordinates."""
    draw = torch.Generator().manual_seed(seed)
    size = torch.rand(n, dims, generator=draw) * 8 + 1
    size[::17] *= 12
    boxes = from_centre_size(torch.rand(n, dims, generator=draw) * 30 - 10, size)
    return boxes, (torch.rand(n, generator=draw) * 20).round() / 20, torch.randint(1, 4, (n,), generator=draw)


def brute_force(boxes, scores, threshold, classes):
    iou, classes = overlap_matrix(boxes.double(), boxes.double()).tolist(), classes.tolist()
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all(classes[i] != classes[j] or iou[i][j] <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 1.0])
def test_nms_equals_brute_force(dims, threshold):
    for seed in range(84):  # a thousand sets in all
        boxes, scores, classes = crowd(60, dims, seed)
        assert nms(boxes, scores, threshold, classes).tolist() == brute_force(boxes, scores, threshold, classes)


@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_nms_equals_torchvision_in_2d(threshold):
    boxes, scores, _ = crowd(2000, 2, 0)
    scores = torch.rand(2000, generator=torch.Generator().manual_seed(1))
    assert nms(boxes, scores, threshold).tolist() == torchvision.ops.nms(boxes, scores, threshold).tolist()


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_at_exactly_the_threshold_both_stay(dims):
    boxes = torch.tensor([[0.0] * dims + [2.0] * dims, [0.0] * dims + [2.0] * (dims - 1) + [1.0]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, 0.4999).tolist() == [0]


@pytest.mark.parametrize("dims", [2, 3])
def test_classes_do_not_suppress_each_other(dims):
    same = torch.tensor([[0.0] * dims + [2.0] * dims]).repeat(2, 1)
    scores = torch.tensor([0.8, 0.9])
    assert nms(same, scores, 0.5, torch.tensor([1, 2])).tolist() == [1, 0]
    assert nms(same, scores, 0.5, torch.tensor([2, 2])).tolist() == [1]
    assert soft_nms(same, scores, torch.tensor([1, 2]))[1].tolist() == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("dims", [2, 3])
def test_nothing_gives_nothing(dims):
    none = torch.zeros(0, 2 * dims)
    assert nms(none, torch.zeros(0), 0.5).tolist() == []
    assert [len(x) for x in soft_nms(none, torch.zeros(0))] == [0, 0]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_box_that_is_not_finite_is_refused(dims, bad):
    boxes, scores, _ = crowd(4, dims, 0)
    boxes[2, -1] = bad
    with pytest.raises(InputError, match="not finite"):
        nms(boxes, scores, 0.5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("method", "expected"), [("linear", 0.4), ("gaussian", 0.485225)])
def test_soft_nms_lowers_the_score_of_a_neighbour_at_iou_one_half(dims, method, expected):
    boxes = torch.tensor([[0.0] * dims + [2.0] * dims, [0.0] * dims + [2.0] * (dims - 1) + [1.0]])
    kept, scores = soft_nms(boxes, torch.tensor([0.9, 0.8]), method=method)
    assert kept.tolist() == [0, 1]
    assert_close(scores, torch.tensor([0.9, expected]))


@pytest.mark.parametrize("dims", [2, 3])
def test_soft_nms_drops_what_falls_below_the_smallest_score(dims):
    same = torch.tensor([[0.0] * dims + [2.0] * dims]).repeat(3, 1)
    kept, _ = soft_nms(same, torch.tensor([0.5, 0.9, 0.7]))
    assert kept.tolist() == [1]
