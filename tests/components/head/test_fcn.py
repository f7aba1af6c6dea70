from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.fcn import FCN
from cphloc.components.loss.dice import Dice
from cphloc.errors import InputError
from cphloc.ops.layers import resize
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level


def pyramid_of(levels, size, cases=1):
    torch.manual_seed(0)
    return tuple(torch.randn(cases, level.channels, *level.size(size)) for level in levels)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("fused", [1, 2, 3])
def test_fcn_32_16_and_8_score_every_voxel(dims, fused):
    levels = tuple(Level(4, (stride,) * dims) for stride in (4, 8, 16))
    head = FCN(levels, classes=["a", "b"], fused=fused)
    logits = head(pyramid_of(levels, (32,) * dims))
    assert logits.shape == (1, 3, *(32,) * dims)
    assert_close(head.decode(logits).mask_probabilities.sum(1), torch.ones(1, *(32,) * dims))


@pytest.mark.parametrize("factor", [(2, 2), (4, 2), (3, 3), (1, 2, 4), (8, 8)])
def test_enlargement_starts_as_linear_interpolation_away_from_the_border(factor):
    levels = (Level(4, factor),)
    head = FCN(levels, classes=["a"])
    head.score[0] = nn.Identity()
    x = torch.randn(1, 2, *(6,) * len(factor))
    enlarged = head((x,))
    expected = resize(x, [6 * f for f in factor])
    inside = (..., *(slice(f, -f) for f in factor))
    assert_close(enlarged[inside], expected[inside], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_scores_of_all_levels_are_added(dims):
    levels = tuple(Level(4, (stride,) * dims) for stride in (1, 2))
    head = FCN(levels, classes=["a"])
    fine, coarse = pyramid_of(levels, (8,) * dims)
    only_fine, only_coarse = head((fine, 0 * coarse)), head((0 * fine, coarse))
    empty = head((0 * fine, 0 * coarse))
    assert_close(head((fine, coarse)), only_fine + only_coarse - empty)


@pytest.mark.parametrize("dims", [2, 3])
def test_stride_1_network_is_a_classifier_run_on_every_window(dims):
    torch.manual_seed(0)
    encoder = ConvEncoder(1, dims, widths=[4, 4], strides=[1, 1], convolutions=1, norm="none")
    head = FCN(encoder.levels, classes=["a"], fused=1)
    x = torch.randn(1, 1, *(11,) * dims)
    dense = head(encoder(x))
    assert dense.shape[2:] == x.shape[2:]
    window = head(encoder(x[(..., *(slice(3, 8),) * dims)]))
    centre = (0, slice(None), *(2,) * dims)
    assert_close(window[centre], dense[(0, slice(None), *(5,) * dims)])


def test_odd_sizes_meet_after_cropping():
    levels = (Level(4, (1, 1)), Level(4, (2, 2)))
    assert FCN(levels, classes=["a"])(pyramid_of(levels, (7, 9))).shape == (1, 2, 7, 9)


def test_cases_without_a_mask_take_no_part():
    levels = (Level(4, (1, 1)),)
    head = FCN(levels, classes=["a"], loss=Dice())
    logits = head(pyramid_of(levels, (8, 8), cases=2)).detach().requires_grad_()
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 2:4] = 1
    head.loss(logits, Targets.collate([Annotation(mask=mask), Annotation()], (8, 8), 1))["mask"].backward()
    assert logits.grad[0].abs().max() > 0
    assert logits.grad[1].abs().max() == 0
    none = head.loss(logits, Targets.collate([Annotation(), Annotation()], (8, 8), 1))["mask"]
    assert none.item() == 0
    assert none.requires_grad


def test_more_levels_than_there_are_is_an_error():
    with pytest.raises(InputError, match="cannot fuse 2 levels"):
        FCN((Level(4, (1, 1)),), classes=["a"], fused=2)
