from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cphloc.components.neck.pyramid_sum import PyramidSum
from cphloc.structures.levels import Level


@pytest.mark.parametrize("dims", [2, 3])
def test_constant_levels_add_up_on_the_finest_grid(dims):
    neck = PyramidSum(tuple(Level(1, (s,) * dims) for s in (1, 2, 4)), channels=1)
    for lateral, weight in zip(neck.lateral, (1.0, 10.0, 100.0), strict=True):
        torch.nn.init.constant_(lateral.weight, weight)
    pyramid = tuple(torch.ones(2, 1, *[n] * dims) for n in (13, 7, 4))
    (total,) = neck(pyramid)
    assert total.shape == (2, 1, *[13] * dims)
    assert_close(total, torch.full_like(total, 111 / 3**0.5))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_sum_lies_on_the_grid_of_the_chosen_level(dims):
    levels = tuple(Level(c, (s,) * dims) for c, s in ((2, 1), (3, 2), (4, 4)))
    neck = PyramidSum(levels, channels=5, level=1)
    assert neck.levels == (Level(5, (2,) * dims),)
    pyramid = tuple(torch.randn(1, level.channels, *[8 // level.stride[0]] * dims) for level in levels)
    assert neck(pyramid)[0].shape == (1, 5, *[4] * dims)
