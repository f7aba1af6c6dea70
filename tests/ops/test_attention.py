from __future__ import annotations

import numpy as np
import pytest
import torch

from cphloc.ops.attention import (
    AttentionTargets,
    boxes_on_grid,
    has_mass,
    log_mass,
    log_softmax,
    mean_over_marked,
    pool,
    regions_on_grid,
)
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

GRIDS = [(4, 6), (3, 4, 5)]


@pytest.mark.parametrize("grid", GRIDS)
def test_softmax_runs_over_all_cells_of_each_case(grid):
    torch.manual_seed(0)
    attention = log_softmax(5 * torch.randn(3, *grid)).exp()
    torch.testing.assert_close(attention.flatten(1).sum(1), torch.ones(3))


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_softmax_of_819200_cells_in_half_precision_is_finite_and_sums_to_one(precision):
    scores = torch.zeros(1, 50, 128, 128, dtype=precision)
    with torch.autocast("cpu", dtype=precision):
        log_attention = log_softmax(scores)
    assert log_attention.dtype == torch.float32
    torch.testing.assert_close(log_attention.flatten()[0], torch.tensor(-np.log(819_200), dtype=torch.float32))
    torch.testing.assert_close(log_attention.double().exp().sum().item(), 1.0, atol=1e-4, rtol=0)


@pytest.mark.parametrize("grid", GRIDS)
def test_constant_scores_pool_the_mean_and_sharp_scores_the_maximum(grid):
    torch.manual_seed(1)
    features, scores = torch.randn(2, 5, *grid), torch.randn(2, *grid)
    even = pool(features, log_softmax(torch.full_like(scores, 3.0)))
    torch.testing.assert_close(even, features.flatten(2).mean(2))
    sharp = pool(features, log_softmax(1e6 * scores))
    peak = scores.flatten(1).argmax(1)
    torch.testing.assert_close(sharp, features.flatten(2)[torch.arange(2), :, peak])


@pytest.mark.parametrize("grid", GRIDS)
def test_pooling_does_not_depend_on_the_order_of_the_cells(grid):
    torch.manual_seed(2)
    features, scores = torch.randn(1, 5, *grid), torch.randn(1, *grid)
    pooled = pool(features, log_softmax(scores))
    flipped = pool(features.flip(2, 3), log_softmax(scores.flip(1, 2)))
    torch.testing.assert_close(pooled, flipped)


def test_mass_is_finite_where_plain_probabilities_vanish():
    scores = torch.tensor([[0.0, -400.0]], requires_grad=True)
    mass = log_mass(scores, torch.tensor([[0.0, 1.0]]))
    assert mass.item() == pytest.approx(-400)
    mass.sum().backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[-1.0, 1.0]]))


def test_empty_region_has_mass_one_and_gradient_exactly_zero():
    scores = torch.randn(2, 3, 4, requires_grad=True)
    mass = log_mass(scores, torch.zeros(2, 3, 4))
    assert mass.tolist() == [0, 0]
    mass.sum().backward()
    assert scores.grad.abs().max() == 0


@pytest.mark.parametrize("stride", [(16, 16), (4, 16, 16)])
def test_three_voxel_lesion_at_stride_16_keeps_mass(stride):
    dims = len(stride)
    grid = (2,) * dims
    level = Level(8, stride)
    box = torch.tensor([[3.0] * dims + [4.0] * (dims - 1) + [6.0]])
    drawn = boxes_on_grid(box, level, grid)
    region = torch.zeros(1, *(2 * s for s in stride))
    region[(0, *(slice(3, 4),) * (dims - 1), slice(3, 6))] = 1
    assert drawn.max() == 1
    torch.testing.assert_close(regions_on_grid(region, level, grid), drawn)


def test_boxes_on_a_grid_equal_their_area_by_interpolation():
    level, grid = Level(1, (2, 4)), (5, 4)
    box = torch.tensor([[1.0, 3.0, 7.0, 13.0]])
    region = torch.zeros(1, 10, 16)
    region[0, 1:7, 3:13] = 1
    torch.testing.assert_close(boxes_on_grid(box, level, grid), regions_on_grid(region, level, grid))


def test_region_of_an_image_that_the_model_padded_keeps_its_place():
    drawn = regions_on_grid(torch.ones(1, 6, 4), Level(1, (4, 4)), (2, 2))
    torch.testing.assert_close(drawn, torch.tensor([[[1.0, 0.0], [0.5, 0.0]]]))


def test_box_outside_the_grid_and_no_boxes_at_all():
    level = Level(1, (4, 4))
    assert not has_mass(boxes_on_grid(torch.tensor([[9.0, 9.0, 12.0, 12.0]]), level, (2, 2))).any()
    assert boxes_on_grid(torch.zeros(0, 4), level, (2, 2)).shape == (0, 2, 2)
    assert regions_on_grid(torch.zeros(0, 8, 8), level, (2, 2)).shape == (0, 2, 2)


def test_two_identical_boxes_are_one_box():
    annotation = [np.array([[0, 0, 4, 4]] * copies, np.float32) for copies in (1, 2)]
    once, twice = (
        AttentionTargets.of(
            Targets.collate([Annotation(boxes=b, box_classes=np.ones(len(b), np.int64))], (8, 8), 1),
            Level(1, (2, 2)),
            (4, 4),
        ).region
        for b in annotation
    )
    torch.testing.assert_close(once, twice)
    assert twice.max() == 1


def test_each_rung_reaches_its_own_target_and_negatives_none():
    mask, half = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.float32)
    mask[0:2, 0:2], half[:, 4:] = 1, 1
    cases = [
        Annotation(mask=mask),
        Annotation(region=half, label=np.ones(1, np.float32)),
        Annotation(region=half, label=np.zeros(1, np.float32)),
        Annotation(boxes=np.zeros((0, 4), np.float32), box_classes=np.zeros(0, np.int64)),
        Annotation(label=np.ones(1, np.float32)),
        Annotation(),
    ]
    where = AttentionTargets.of(Targets.collate(cases, (8, 8), 1), Level(1, (2, 2)), (4, 4))
    assert has_mass(where.region).tolist() == [True, False, False, False, False, False]
    assert has_mass(where.coarse).tolist() == [False, True, False, False, False, False]
    assert [len(boxes) for boxes in where.boxes] == [1, 0, 0, 0, 0, 0]


def test_mean_counts_only_cases_whose_region_says_something():
    region = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    assert mean_over_marked(torch.tensor([3.0, 0.0, 1.0]), region) == 2
    assert mean_over_marked(torch.zeros(3), torch.zeros(3, 2)) == 0
