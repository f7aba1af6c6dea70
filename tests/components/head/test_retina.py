from __future__ import annotations

import pytest
import torch

from cphloc.components.head.retina import Retina
from cphloc.components.loss.box_iou import BoxIoU
from cphloc.errors import InputError
from cphloc.ops.boxes import encode
from cphloc.structures.levels import Level


def levels_of(dims: int) -> tuple[Level, ...]:
    return tuple(Level(4, (s,) * dims) for s in (4, 8))


@pytest.mark.parametrize("dims", [2, 3])
def test_given_anchors_shape_the_output(dims):
    anchors = [[[8.0] * dims, [12.0] * dims], [[20.0] * dims, [30.0] * dims]]
    head = Retina(levels_of(dims), ["a", "b", "c"], anchors, channels=8, convolutions=1)
    outputs = head((torch.zeros(1, 4, *[6] * dims), torch.zeros(1, 4, *[3] * dims)))
    assert outputs.scores[0].shape == (1, 2 * 3, *[6] * dims)
    assert outputs.deltas[1].shape == (1, 2 * 2 * dims, *[3] * dims)
    sizes = head.anchors(outputs)[1][:, dims:] - head.anchors(outputs)[1][:, :dims]
    assert set(sizes.flatten().tolist()) == {20.0, 30.0}


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        ([[[8, 8]]], "given for 1 levels but the pyramid has 2"),
        ([[[8, 8]], [[8, 8], [9, 9]]], "the same number of anchors"),
        ([[[8, 8]], [[8, 8, 8]]], "needs 2 positive sizes"),
        ([[[8, 8]], [[8, 0]]], "needs 2 positive sizes"),
    ],
)
def test_anchors_that_do_not_fit_the_levels_are_refused(anchors, message):
    with pytest.raises(InputError, match=message):
        Retina(levels_of(2), ["a"], anchors)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_box_loss_compares_what_it_asks_for(dims):
    anchors = torch.tensor([[0.0] * dims + [8.0] * dims])
    boxes = torch.tensor([[1.0] * dims + [6.0] * dims])
    right, wrong = encode(boxes, anchors), torch.zeros(1, 2 * dims)
    for loss in (None, BoxIoU("giou")):
        head = Retina(levels_of(dims), ["a"], channels=8, convolutions=0, box_loss=loss)
        assert head.box_loss(right, anchors, boxes).item() == pytest.approx(0, abs=1e-6)
        assert head.box_loss(wrong, anchors, boxes).item() > 0.1


@pytest.mark.parametrize("dims", [2, 3])
def test_a_new_head_scores_one_percent(dims):
    head = Retina(levels_of(dims), ["a"], channels=8)
    outputs = head(tuple(torch.randn(1, 4, *[n] * dims) for n in (8, 4)))
    assert outputs.scores[0].sigmoid().mean().item() == pytest.approx(0.01, abs=0.002)
