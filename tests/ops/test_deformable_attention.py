"""Against a plain reference with grid_sample."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from cphloc.ops.deformable_attention import DeformableAttention, sample_points

SIZES = {2: [(5, 7), (3, 4)], 3: [(4, 5, 6), (2, 3, 3)]}


def read(maps, points):
    """``(N, C, *S)`` at ``(N, P, D)`` in [0, 1] by torch; cells outside are 0."""
    dims = points.shape[-1]
    grid = (2 * points - 1).flip(-1).view(*points.shape[:2], *[1] * (dims - 1), dims)
    return functional.grid_sample(maps, grid, align_corners=False).flatten(2)


@pytest.mark.parametrize("dims", [2, 3])
def test_points_are_read_as_grid_sample_reads_them_also_at_and_beyond_the_edge(dims):
    torch.manual_seed(0)
    maps, points = torch.randn(2, 3, *SIZES[dims][0]), torch.rand(2, 40, dims) * 1.6 - 0.3
    assert_close(sample_points(maps, points), read(maps, points))


@pytest.mark.parametrize("dims", [2, 3])
def test_attention_is_the_weighted_sum_of_the_points_of_every_head_and_level(dims):
    """One query, head, level and point at a time."""
    torch.manual_seed(1)
    heads, points, channels = 2, 3, 8
    layer = DeformableAttention(channels, 2, dims, heads, points)
    torch.nn.init.normal_(layer.offset.weight, std=0.5)
    maps = [torch.randn(2, channels, *size) for size in SIZES[dims]]
    queries, boxes = torch.randn(2, 4, channels), torch.rand(2, 4, 2 * dims)
    offset = layer.offset(queries).view(2, 4, heads, 2, points, dims)
    weight = layer.weight(queries).view(2, 4, heads, 2 * points).softmax(-1).view(2, 4, heads, 2, points)
    expected = torch.zeros(2, 4, channels)
    for image, query, head, level, point in torch.cartesian_prod(*map(torch.arange, (2, 4, heads, 2, points))).tolist():
        part = slice(4 * head, 4 * head + 4)
        value = layer.value(maps[level][image].movedim(0, -1)).movedim(-1, 0)[part]
        box = boxes[image, query]
        at = box[:dims] + offset[image, query, head, level, point] / points * box[dims:] / 2
        share = weight[image, query, head, level, point]
        expected[image, query, part] += share * read(value[None], at[None, None])[0, :, 0]
    assert_close(layer(queries, boxes, maps), layer.out(expected))
