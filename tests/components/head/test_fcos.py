from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cphloc.components.head.fcos import FCOS, FCOSOutput, centreness_of
from cphloc.structures.levels import Level


@pytest.mark.parametrize("dims", [2, 3])
def test_centreness_is_the_geometric_mean_of_the_ratios(dims):
    box = torch.tensor([[0.0] * dims + [8.0] * dims]).repeat(3, 1)
    points = torch.tensor([[4.0] * dims, [2.0] * dims, [2.0] + [4.0] * (dims - 1)])
    assert_close(centreness_of(box, points), torch.tensor([1, 1 / 3, (1 / 3) ** (1 / dims)]))


@pytest.mark.parametrize("dims", [2, 3])
def test_distances_are_exponentials_in_strides_and_scores_are_damped_off_centre(dims):
    head = FCOS((Level(4, (4,) * dims),), classes=["a"], channels=4, convolutions=0)
    scores, centre = torch.full((1, 1, *[4] * dims), -20.0), torch.zeros(1, 1, *[4] * dims)
    scores[(0, 0, *[1] * dims)] = 20.0
    logs = torch.tensor([0.5] * dims + [1.5] * dims).log().view(1, -1, *[1] * dims).expand(1, -1, *[4] * dims)
    found = head.decode(FCOSOutput((scores,), (logs,), (centre,))).detections[0]
    assert_close(found.boxes, torch.tensor([[4.0] * dims + [12.0] * dims]))
    assert_close(found.scores, torch.tensor([0.5]))
