from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cphloc.components.head.global_box import GlobalBox, GlobalBoxOutput
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level


def head_of(dims: int) -> GlobalBox:
    return GlobalBox((Level(4, (4,) * dims),), classes=["a", "b"])


def targets_of(dims: int, boxes: list, classes: list[int]) -> Targets:
    boxes = np.array(boxes, np.float32).reshape(-1, 2 * dims)
    return Targets.collate([Annotation(boxes=boxes, box_classes=np.array(classes, np.int64))], (32,) * dims, classes=2)


@pytest.mark.parametrize("dims", [2, 3])
def test_errors_are_squared_shares_of_the_image(dims):
    targets = targets_of(dims, [[8.0] * dims + [16.0] * dims], [1])
    outputs = GlobalBoxOutput(torch.zeros(1, 2), torch.full((1, 2, dims), 20.0), torch.full((1, 2, dims), 16.0))
    losses = head_of(dims).loss(outputs, targets)
    assert_close(losses["centre"], torch.tensor(0.25**2))
    assert_close(losses["size"], torch.tensor(0.25**2))
    assert_close(losses["score"], torch.tensor(2.0).log())


@pytest.mark.parametrize("dims", [2, 3])
def test_an_absent_class_trains_neither_centre_nor_size(dims):
    outputs = GlobalBoxOutput(*(torch.rand(1, 2, *shape, requires_grad=True) for shape in ((), (dims,), (dims,))))
    sum(head_of(dims).loss(outputs, targets_of(dims, [[8.0] * dims + [16.0] * dims], [1])).values()).backward()
    assert outputs.centre.grad[0, 0].abs().sum() > 0
    assert outputs.centre.grad[0, 1].abs().sum() == 0
    assert outputs.size.grad[0, 1].abs().sum() == 0
    assert outputs.logits.grad[0, 1].abs() > 0


@pytest.mark.parametrize("dims", [2, 3])
def test_two_objects_are_best_answered_by_the_point_between_them(dims):
    two = [[4.0] * dims + [12.0] * dims, [20.0] * dims + [28.0] * dims]
    centre = torch.zeros(1, 2, dims, requires_grad=True)
    optimizer = torch.optim.SGD([centre], lr=200.0)
    for _ in range(100):
        outputs = GlobalBoxOutput(torch.zeros(1, 2), centre, torch.full((1, 2, dims), 8.0))
        optimizer.zero_grad()
        head_of(dims).loss(outputs, targets_of(dims, two, [1, 1]))["centre"].backward()
        optimizer.step()
    assert_close(centre[0, 0].detach(), torch.full((dims,), 16.0), atol=0.1, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_several_objects_of_a_class_share_one_weight(dims):
    boxes = [[8.0] * dims + [16.0] * dims] * 2
    outputs = GlobalBoxOutput(torch.zeros(1, 2), torch.full((1, 2, dims), 20.0), torch.full((1, 2, dims), 8.0))
    assert_close(head_of(dims).loss(outputs, targets_of(dims, boxes, [1, 1]))["centre"], torch.tensor(0.25**2))
