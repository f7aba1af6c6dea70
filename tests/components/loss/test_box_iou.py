from __future__ import annotations

import pytest
import torch
import torchvision
from torch.testing import assert_close

from cphloc.components.loss.box_iou import BoxIoU


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([-1, -1, 1, 1], [0, 0, 1, 1], 0.75),
        ([0, 0, 1, 1], [0, 1, 1, 2], 1.0),
        ([0, 0, 1, 1], [1, 1, 2, 2], 1.5),
    ],
)
def test_giou_loss_gives_torchvisions_asserted_constants(a, b, expected):
    assert BoxIoU("giou")(torch.tensor([a]).float(), torch.tensor([b]).float()).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("measure", "oracle"),
    [("giou", torchvision.ops.generalized_box_iou_loss), ("diou", torchvision.ops.distance_box_iou_loss)],
)
def test_equals_torchvision_in_2d_with_its_gradient(measure, oracle):
    lo = torch.rand(2, 20, 2) * 10
    a, b = torch.cat([lo, lo + torch.rand(2, 20, 2) * 8 + 0.5], dim=2)
    mine, theirs = a.clone().requires_grad_(), a.clone().requires_grad_()
    loss, expected = BoxIoU(measure)(mine, b), oracle(theirs, b)
    assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    loss.sum().backward()
    expected.sum().backward()
    assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("measure", ["iou", "giou", "diou"])
def test_same_box_costs_nothing_and_boxes_apart_attract_unless_plain_iou(dims, measure):
    box = torch.tensor([[0.0] * dims + [2.0] * dims])
    assert BoxIoU(measure)(box, box).item() == pytest.approx(0, abs=1e-6)
    apart = (box + 5).requires_grad_()
    BoxIoU(measure)(apart, box).sum().backward()
    assert (apart.grad.abs().sum() > 0) == (measure != "iou")
    moved = apart.detach() - 0.1 * apart.grad
    assert measure == "iou" or BoxIoU(measure)(moved, box) < BoxIoU(measure)(apart, box)
