from __future__ import annotations

import pytest
import torch

from cphloc.ops.anchors import grid_anchors
from cphloc.ops.assign_atss import assign_atss


def test_gives_monais_asserted_match():
    box = torch.tensor([[0.0, 1, 2, 3, 2, 5]])
    anchors = torch.tensor([[0.0, 1, 2, 3, 2, 5], [0, 1, 1, 3, 2, 5], [0, 1, 2, 3, 2, 4]])
    assert assign_atss([anchors], box, candidates=6).tolist() == [0, -1, -1]


@pytest.mark.parametrize("dims", [2, 3])
def test_a_single_candidate_is_positive(dims):
    box = torch.tensor([[0.0] * dims + [4.0] * dims])
    assert assign_atss([box], box, candidates=9).tolist() == [0]


@pytest.mark.parametrize("dims", [2, 3])
def test_a_lesion_smaller_than_a_cell_still_gets_an_anchor(dims):
    anchors = [grid_anchors((4,) * dims, (8,) * dims, [(16.0,) * dims])]
    tiny = torch.tensor([[9.0] * dims + [10.0] * dims])
    assigned = assign_atss(anchors, tiny, candidates=3)
    assert (assigned >= 0).sum() == 1
    chosen = anchors[0][assigned.argmax()]
    assert ((chosen[:dims] <= tiny[0, :dims]) & (chosen[dims:] >= tiny[0, dims:])).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_each_anchor_belongs_to_the_box_it_overlaps_most_and_centres_lie_inside(dims):
    anchors = [grid_anchors((8,) * dims, (4,) * dims, [(8.0,) * dims])]
    boxes = torch.tensor([[2.0] * dims + [14.0] * dims, [10.0] * dims + [20.0] * dims])
    assigned = assign_atss(anchors, boxes, candidates=9)
    centre = (anchors[0][:, :dims] + anchors[0][:, dims:]) / 2
    for number, box in enumerate(boxes):
        mine = centre[assigned == number]
        assert len(mine)
        assert ((mine > box[:dims]) & (mine < box[dims:])).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_without_boxes_all_is_background(dims):
    anchors = [grid_anchors((2,) * dims, (4,) * dims, [(8.0,) * dims])]
    assert (assign_atss(anchors, torch.zeros(0, 2 * dims)) == -1).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_the_spread_is_the_unbiased_standard_deviation(dims):
    """IoUs 1, 0.83, 0, 0, 0 have the threshold 0.871; the biased deviation would put it at 0.817."""
    box = torch.tensor([[0.0] * dims + [10.0] * dims])
    almost = torch.tensor([[0.0] * dims + [10.0] * (dims - 1) + [8.3]])
    assert assign_atss([torch.cat([box, almost, box + 20, box + 30, box + 40])], box).tolist() == [0, -1, -1, -1, -1]
