from __future__ import annotations

import pytest
import torch

from cphloc.ops.assign import IGNORED, NEGATIVE, assign_centre_cell, assign_max_iou, level_of
from cphloc.structures.levels import Level


def test_best_overlap_gives_detectron2s_asserted_matches():
    quality = torch.tensor([[0.15, 0.45, 0.2, 0.6], [0.3, 0.65, 0.05, 0.1], [0.05, 0.4, 0.25, 0.4]]).T
    assert assign_max_iou(quality, 0.3, 0.7).tolist() == [IGNORED, 1, NEGATIVE, 0]
    assert assign_max_iou(quality, 0.3, 0.7, rescue=False).tolist() == [IGNORED, IGNORED, NEGATIVE, IGNORED]


def test_a_box_that_nothing_touches_rescues_nothing():
    assert assign_max_iou(torch.zeros(3, 1), 0.3, 0.7).tolist() == [NEGATIVE] * 3


def test_without_boxes_all_is_background():
    assert assign_max_iou(torch.zeros(3, 0), 0.3, 0.7).tolist() == [NEGATIVE] * 3
    assert assign_max_iou(torch.zeros(0, 2), 0.3, 0.7).tolist() == []


@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_belongs_to_the_cell_of_its_centre(dims):
    cells, stride = (4, 5, 6)[:dims], (2, 4, 4)[:dims]
    index = (3, 2, 1)[:dims]
    centre = torch.tensor([(i + 0.9) * s for i, s in zip(index, stride, strict=True)])
    assigned, lost = assign_centre_cell(torch.cat([centre - 3, centre + 3])[None], cells, stride)
    assert [int(i) for i in assigned.view(cells).argmax().unsqueeze(0)] == [
        int(torch.arange(assigned.numel()).view(cells)[index])
    ]
    assert (assigned >= 0).sum() == 1
    assert lost == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_a_centre_on_the_far_border_belongs_to_the_last_cell(dims):
    assigned, _ = assign_centre_cell(torch.tensor([[6.0] * dims + [10.0] * dims]), (2,) * dims, (4,) * dims)
    assert assigned[-1] == 0


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_of_two_boxes_in_one_cell_the_smaller_stays_and_the_loss_is_counted(dims, order):
    boxes = torch.tensor([[1.0] * dims + [3.0] * dims, [0.0] * dims + [4.0] * dims])[order]
    assigned, lost = assign_centre_cell(boxes, (2,) * dims, (4,) * dims)
    assert lost == 1
    assert assigned[0] == order.index(0)
    assert (assigned[1:] == NEGATIVE).all()


def test_boxes_go_to_the_level_of_the_fpn_paper():
    levels = tuple(Level(1, (s, s)) for s in (4, 8, 16, 32))
    sides = torch.tensor([1.0, 32, 56, 64, 111, 112, 113, 224, 448])
    boxes = torch.stack([0 * sides, 0 * sides, sides, sides], dim=1)
    assert (2 + level_of(boxes, levels, 14)).tolist() == [2, 2, 2, 2, 2, 3, 3, 4, 5]
