from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cphloc.ops.anchors import cell_centres, grid_anchors, retina_sizes
from cphloc.structures.levels import Level


@pytest.mark.parametrize("dims", [2, 3])
def test_cells_are_counted_in_array_order_and_centred_at_a_half(dims):
    cells, stride = (2, 3, 4)[:dims], (1, 2, 5)[:dims]
    centres = cell_centres(cells, stride).view(*cells, dims)
    index = (1, 2, 3)[:dims]
    assert centres[index].tolist() == [(i + 0.5) * s for i, s in zip(index, stride, strict=True)]


@pytest.mark.parametrize("dims", [2, 3])
def test_anchors_of_all_sizes_surround_each_cells_centre(dims):
    sizes = [(4.0,) * dims, (8.0,) * (dims - 1) + (2.0,)]
    anchors = grid_anchors((2,) * dims, (4,) * dims, sizes).view(-1, 2, 2 * dims)
    assert_close((anchors[..., :dims] + anchors[..., dims:])[:, 0] / 2, cell_centres((2,) * dims, (4,) * dims))
    assert_close((anchors[..., dims:] - anchors[..., :dims])[3], torch.tensor(sizes))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_nine_sizes_have_the_area_of_their_octave_and_the_three_ratios(dims):
    sizes = torch.tensor(retina_sizes(Level(1, (8,) * dims)))
    octaves = 32 * torch.tensor([1, 2 ** (1 / 3), 2 ** (2 / 3)]).repeat_interleave(3)
    assert_close(sizes.prod(dim=1), octaves**dims)
    assert_close(sizes[:, -2] / sizes[:, -1], torch.tensor([0.5, 1, 2]).repeat(3))
