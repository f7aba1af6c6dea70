from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cphloc.components.head.centernet import CenterNet, CenterNetOutput, heatmap_loss
from cphloc.structures.levels import Level


def test_the_heat_map_loss_is_the_published_formula():
    p, heat = torch.tensor([0.3, 0.3, 0.3]), torch.tensor([1.0, 0.0, 0.8])
    expected = -(0.7**2) * p.log()[0] - 0.3**2 * (1 - p).log()[0] - 0.2**4 * 0.3**2 * (1 - p).log()[0]
    assert_close(heatmap_loss(p.logit(), heat), expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_peaks_decode_to_boxes_by_offset_and_size_in_cells(dims):
    head = CenterNet((Level(4, (4,) * dims),), classes=["a", "b"], channels=4)
    heat = torch.full((1, 2, *[6] * dims), -20.0)
    heat[(0, 1, *[2] * dims)], heat[(0, 1, *[3] * dims)] = 4.0, 3.0
    offset = torch.full((1, dims, *[6] * dims), 0.25)
    size = torch.full((1, dims, *[6] * dims), 2.0)
    found = head.decode(CenterNetOutput(heat, offset, size)).detections[0]
    assert found.classes.tolist() == [2]
    assert_close(found.boxes, torch.tensor([[7.0] * dims + [15.0] * dims]))
