from __future__ import annotations

import pytest
import torch

from cphloc.ops.anchors import grid_anchors
from cphloc.ops.dense_prediction import PRIOR_BIAS, Towers, as_rows, predictor
from cphloc.structures.levels import Level


def test_the_prior_bias_is_that_of_one_percent():
    assert pytest.approx(-4.59512, abs=1e-5) == PRIOR_BIAS


@pytest.mark.parametrize("dims", [2, 3])
def test_a_new_predictor_says_one_percent_everywhere(dims):
    scores = predictor(16, 3, dims, PRIOR_BIAS)(torch.randn(2, 16, *[6] * dims)).sigmoid()
    assert scores.mean().item() == pytest.approx(0.01, abs=0.002)


@pytest.mark.parametrize("dims", [2, 3])
def test_rows_come_in_the_order_of_the_anchors(dims):
    cells, stride, sizes = (2, 3, 4)[:dims], (4,) * dims, [(2.0,) * dims, (5.0,) * dims]
    anchors = grid_anchors(cells, stride, sizes)
    maps = anchors.view(*cells, 2 * 2 * dims).movedim(-1, 0)[None]
    assert torch.equal(as_rows(maps, 2 * dims)[0], anchors)


@pytest.mark.parametrize("dims", [2, 3])
def test_levels_of_any_width_enter_the_same_stacks(dims):
    levels = tuple(Level(c, (s,) * dims) for c, s in ((4, 4), (8, 8)))
    towers = Towers(levels, channels=8, convolutions=2, branches=2)
    out = towers(tuple(torch.randn(1, level.channels, *[4] * dims) for level in levels))
    assert [[tuple(x.shape[:2]) for x in branch] for branch in out] == [[(1, 8)] * 2] * 2
    assert sum(isinstance(entry, torch.nn.Identity) for entry in towers.entries) == 1
