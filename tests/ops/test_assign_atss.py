from __future__ import annotations

import itertools
import math
import statistics

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


def hull_and_iou(a, b):
    """IoU of two boxes, and the fraction of their enclosing box outside both."""
    dims = len(a) // 2
    common, hull, first, second = 1.0, 1.0, 1.0, 1.0
    for axis in range(dims):
        common *= max(0.0, min(a[axis + dims], b[axis + dims]) - max(a[axis], b[axis]))
        hull *= max(a[axis + dims], b[axis + dims]) - min(a[axis], b[axis])
        first, second = first * (a[axis + dims] - a[axis]), second * (b[axis + dims] - b[axis])
    union = first + second - common
    return (hull - union) / hull, common / union


def middle(box):
    dims = len(box) // 2
    return [(a + b) / 2 for a, b in zip(box[:dims], box[dims:], strict=True)]


def by_the_paper(levels, boxes, candidates, centre_inside):
    """Algorithm 1 of Zhang et al. 2020, box by box."""
    every, best, dims = [anchor for level in levels for anchor in level], {}, len(boxes[0]) // 2
    centres = [middle(anchor) for anchor in every]
    for number, box in enumerate(boxes):
        chosen, start, distance = [], 0, [math.dist(centre, middle(box)) for centre in centres]
        for level in levels:
            chosen += sorted(range(start, start + len(level)), key=distance.__getitem__)[:candidates]
            start += len(level)
        iou = {k: hull_and_iou(every[k], box)[1] for k in chosen}
        threshold = statistics.mean(iou.values()) + statistics.stdev(iou.values())
        for k in chosen:
            inside = all(box[axis] + 0.01 < centres[k][axis] < box[axis + dims] - 0.01 for axis in range(dims))
            if iou[k] >= threshold and (inside or not centre_inside) and iou[k] > best.get(k, (-1, -1))[0]:
                best[k] = iou[k], number
    return [best[k][1] if k in best else -1 for k in range(len(every))]


def with_every_box_reached(assigned, every, boxes):
    """Boxes left without an anchor take, in order, the closest that is not another's only one; not in the paper."""
    assigned = list(assigned)
    for number in [n for n in range(len(boxes)) if n not in assigned]:
        free = [k for k, owner in enumerate(assigned) if owner < 0 or assigned.count(owner) > 1]
        closeness = {}
        for k in free:
            outside, iou = hull_and_iou(every[k], boxes[number])
            closeness[k] = iou if iou > 0 else iou - outside - 1
        assigned[max(free, key=closeness.get)] = number
    return assigned


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("candidates", "centre_inside"), [(9, True), (4, False)])
def test_equals_the_paper_followed_box_by_box(dims, candidates, centre_inside):
    """The published settings of ATSS and of nnDetection; 200 boxes, a few beyond all anchors."""
    draw = torch.Generator().manual_seed(dims)
    cells = ((12, 6), (6, 3))[dims - 2]
    levels = [grid_anchors((n,) * dims, (48 // n,) * dims, [(4 * 24.0 / n,) * dims]) for n in cells]
    as_numbers, rescued, shared = [level.tolist() for level in levels], 0, 0
    for count in itertools.islice(itertools.cycle(range(1, 10)), 40):
        low = torch.rand(count, dims, generator=draw) * 56 - 8
        boxes = torch.cat([low, low + 1 + torch.rand(count, dims, generator=draw) * 24], dim=1)
        paper = by_the_paper(as_numbers, boxes.tolist(), candidates, centre_inside)
        expected = with_every_box_reached(paper, torch.cat(levels).tolist(), boxes.tolist())
        assert assign_atss(levels, boxes, candidates, centre_inside).tolist() == expected
        rescued += expected != paper
        shared += sum(owner >= 0 for owner in paper) > count
    assert rescued > 5
    assert shared > 5
