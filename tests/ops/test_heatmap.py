from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cphloc.ops.boxes import from_centre_size, overlap
from cphloc.ops.heatmap import draw_centres, gaussian_radius, peaks


@pytest.mark.parametrize("dims", [2, 3])
def test_corners_moved_by_the_radius_just_keep_the_overlap(dims):
    size = torch.tensor([[10.0, 7.0, 12.0][:dims], [3.0, 30.0, 9.0][:dims]])
    radius = gaussian_radius(size, 0.7)[:, None]
    box = from_centre_size(torch.zeros_like(size), size)
    sides = torch.cat([torch.ones_like(size), torch.ones_like(size)], dim=1)
    outwards = torch.cat([-torch.ones_like(size), torch.ones_like(size)], dim=1)
    moved = torch.stack([overlap(box, box + radius * d) for d in (sides, outwards, -outwards)])
    assert_close(moved.amin(dim=0), torch.full((2,), 0.7), atol=1e-4, rtol=0)


def test_the_radius_in_2d_is_the_root_of_the_shift_equation():
    h, w, o = 10.0, 6.0, 0.7
    roots = []
    for a, b, c in (
        (1, h + w, w * h * (1 - o) / (1 + o)),
        (4, 2 * (h + w), (1 - o) * w * h),
    ):
        roots.append((b - (b * b - 4 * a * c) ** 0.5) / (2 * a))
    a, b, c = 4 * o, 2 * o * (h + w), (o - 1) * w * h
    roots.append((-b + (b * b - 4 * a * c) ** 0.5) / (2 * a))
    assert gaussian_radius(torch.tensor([[h, w]])).item() == pytest.approx(min(roots), abs=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_each_centre_is_one_and_overlapping_bumps_take_the_maximum(dims):
    cells = (16, 17, 18)[:dims]
    centres = torch.tensor([[4] * dims, [7] * dims, [4] * dims])
    sizes = torch.full((3, dims), 12.0)
    heat = draw_centres(centres, sizes, torch.tensor([0, 0, 1]), 2, cells)
    assert heat[(0, *[4] * dims)] == heat[(0, *[7] * dims)] == heat[(1, *[4] * dims)] == 1
    assert heat.max() == 1
    sigma = (2 * gaussian_radius(sizes[:1]).floor() + 1) / 6
    assert_close(heat[(1, 6, *[4] * (dims - 1))], torch.exp(-4 / (2 * sigma**2))[0])
    assert 0 < heat[(1, *[5] * dims)] < 1


@pytest.mark.parametrize("dims", [2, 3])
def test_only_the_top_of_a_neighbourhood_is_a_peak(dims):
    heat = torch.rand(1, 2, *[9] * dims, generator=torch.Generator().manual_seed(0))
    found = peaks(heat)
    for at in found.nonzero():
        around = heat[(0, at[1], *[slice(max(int(i) - 1, 0), int(i) + 2) for i in at[2:]])]
        assert found[tuple(at)] == around.max()
    assert found[heat == heat.max()] == heat.max()
    assert (found > 0).sum() < heat.numel() / 4
