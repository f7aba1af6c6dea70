from __future__ import annotations

import pytest
import torch

from cphloc.ops.boxes import from_centre_size, overlap_matrix
from cphloc.ops.proposals import sliding_proposals


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_reach_all_borders_and_overlap_as_asked(dims):
    extent = (21, 30, 40)[:dims]
    boxes = sliding_proposals(extent, [(8,) * dims], overlap=0.5)
    assert boxes[:, :dims].amin(dim=0).tolist() == [0] * dims
    assert boxes[:, dims:].amax(dim=0).tolist() == list(extent)
    for axis in range(dims):
        assert boxes[:, axis].unique().diff().max() <= 4


@pytest.mark.parametrize("dims", [2, 3])
def test_any_object_of_the_size_is_overlapped_well(dims):
    boxes = sliding_proposals((40,) * dims, [(10,) * dims], overlap=0.67)
    objects = from_centre_size(torch.rand(200, dims) * 30 + 5, torch.full((200, dims), 10.0))
    worst = overlap_matrix(boxes, objects).amax(dim=0).min()
    shift = (1 - 0.33 / 2) ** dims
    assert worst >= shift / (2 - shift) - 1e-4


@pytest.mark.parametrize("dims", [2, 3])
def test_a_size_larger_than_the_image_is_cut_to_it(dims):
    assert sliding_proposals((6,) * dims, [(8,) * dims], 0.5).tolist() == [[0.0] * dims + [6.0] * dims]
