from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cphloc.components.head.yolo import YOLO
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level


def test_the_grid_of_the_paper_has_1470_numbers():
    head = YOLO((Level(4, (64, 64)),), classes=[str(i) for i in range(20)])
    assert head((torch.zeros(1, 4, 7, 7),)).numel() == 1470


def grid_with_two_predictors(dims: int) -> tuple[YOLO, torch.Tensor, Targets]:
    """In the cell of the object the second predictor is right, the first is half as large along every axis."""
    head = YOLO((Level(4, (8,) * dims),), classes=["a", "b"])
    box = np.array([[10.0] * dims + [14.0] * dims], np.float32)
    targets = Targets.collate([Annotation(boxes=box, box_classes=np.array([2]))], (16,) * dims, classes=2)
    root = (4 / 16) ** 0.5
    right = [0.5] * dims + [root] * dims + [1.0]
    small = [0.5] * dims + [root / 2**0.5] * dims + [0.0]
    outputs = torch.zeros(1, 2 * (2 * dims + 1) + 2, *[2] * dims)
    outputs[(0, slice(None), *[1] * dims)] = torch.tensor([*small, *right, 0.0, 1.0])
    return head, outputs, targets


@pytest.mark.parametrize("dims", [2, 3])
def test_the_predictor_of_best_overlap_answers_and_a_perfect_grid_costs_nothing(dims):
    head, outputs, targets = grid_with_two_predictors(dims)
    losses = head.loss(outputs, targets)
    assert_close(sum(losses.values()), torch.tensor(0.0), atol=1e-6, rtol=0)
    outputs[(0, 2 * dims, *[1] * dims)] = 0.4
    assert_close(head.loss(outputs, targets)["empty"], torch.tensor(0.5 * 0.4**2))


@pytest.mark.parametrize("dims", [2, 3])
def test_objectness_is_trained_towards_the_overlap_reached(dims):
    head, outputs, targets = grid_with_two_predictors(dims)
    outputs[(0, slice(2 * dims + 1 + dims, 2 * dims + 1 + 2 * dims), *[1] * dims)] *= 0.9
    losses = head.loss(outputs, targets)
    assert_close(losses["object"], torch.tensor((1 - 0.81**dims) ** 2), atol=1e-5, rtol=1e-4)
    assert_close(losses["box"], torch.tensor(5 * dims * (0.1 * 0.5) ** 2), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_perfect_grid_decodes_to_the_object(dims):
    head, outputs, targets = grid_with_two_predictors(dims)
    found = head.decode(outputs).detections[0]
    assert_close(found.boxes, targets.boxes[0])
    assert found.classes.tolist() == [2]
