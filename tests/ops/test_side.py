from __future__ import annotations

import pytest
import torch

from cphloc.ops.side import half_of, side_of


@pytest.mark.parametrize("lead", [(3,), (2, 3)])
@pytest.mark.parametrize("width", [6, 7])
def test_half_of_a_mirrored_region_is_the_mirrored_half(lead, width):
    region = torch.zeros(2, *lead, width)
    region[0, ..., 1], region[1, ..., -1] = 1, 1
    assert side_of(region).tolist() == [0, 1]
    assert side_of(region.flip(-1)).tolist() == [1, 0]
    torch.testing.assert_close(half_of(region.flip(-1)), half_of(region).flip(-1))
    torch.testing.assert_close(half_of(region)[0] + half_of(region)[1], torch.ones(*lead, width))


def test_a_region_on_both_sides_or_nowhere_has_no_side():
    region = torch.zeros(3, 2, 5)
    region[1] = 1
    region[2, :, 2] = 0.3
    assert side_of(region).tolist() == [-1, -1, -1]
    assert half_of(region).abs().max() == 0
