from __future__ import annotations

import numpy as np
import pytest

from cphloc.errors import InputError
from cphloc.metrics.attention import (
    enrichment,
    entropy,
    lesion_recall,
    mass_in_region,
    peaks,
    pointing,
    side_accuracy,
    slice_hit,
    thresholded_iou,
    upsample,
)
from cphloc.structures.boxes import region_of

SHAPES = pytest.mark.parametrize("shape", [(8, 10), (4, 8, 10)], ids=["2-D", "3-D"])


def random_map(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random(shape)
    return values / values.sum()


def corner_region(shape: tuple[int, ...]) -> np.ndarray:
    region = np.zeros(shape, np.float32)
    region[tuple(slice(0, n // 2) for n in shape)] = 1
    return region


def test_mass_of_the_lecture_example() -> None:
    attention, annotation = np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0, 1], [0, 1]])
    assert mass_in_region(attention, annotation) == pytest.approx(0.6)
    assert -np.log(mass_in_region(attention, annotation)) == pytest.approx(0.5108256, abs=1e-7)


@SHAPES
def test_uniform_attention_is_chance(shape) -> None:
    uniform, region = np.full(shape, 3.0), corner_region(shape)
    assert mass_in_region(uniform, region) == pytest.approx(region.mean())
    assert enrichment(uniform, region) == pytest.approx(1)
    assert entropy(uniform) == pytest.approx(np.log(np.prod(shape)))


@SHAPES
def test_masses_of_a_region_and_of_the_rest_sum_to_one(shape) -> None:
    attention, region = random_map(shape), corner_region(shape)
    assert mass_in_region(attention, region) + mass_in_region(attention, 1 - region) == pytest.approx(1)
    assert mass_in_region(5 * attention, region) == pytest.approx(mass_in_region(attention, region))


@SHAPES
def test_partly_covered_cells_count_in_part(shape) -> None:
    attention = random_map(shape)
    assert mass_in_region(attention, np.full(shape, 0.25)) == pytest.approx(0.25)


@SHAPES
def test_upsampling_equals_torch(shape) -> None:
    functional = pytest.importorskip("torch.nn.functional")
    torch = pytest.importorskip("torch")
    attention = random_map(shape)
    target = tuple(3 * n + k for k, n in enumerate(shape))
    mode = {2: "bilinear", 3: "trilinear"}[len(shape)]
    theirs = functional.interpolate(torch.from_numpy(attention)[None, None], target, mode=mode, align_corners=False)
    assert upsample(attention, target) == pytest.approx((theirs / theirs.sum())[0, 0].numpy())
    assert upsample(attention, shape) == pytest.approx(attention)
    assert upsample(np.ones((1,) * len(shape)), shape) == pytest.approx(np.full(shape, 1 / np.prod(shape)))


@SHAPES
def test_pointing_tolerance_is_a_distance_in_mm(shape) -> None:
    spacing_mm = (5.0, 2.0, 1.5)[-len(shape) :]
    attention, region = np.full(shape, 1e-3), np.zeros(shape)
    attention[(3,) * len(shape)] = 1
    region[(*(3,) * (len(shape) - 1), 5)] = 1
    assert pointing(attention, region) == 0
    assert pointing(attention, region, 2.9, spacing_mm) == 0
    assert pointing(attention, region, 3.0, spacing_mm) == 1
    assert pointing(attention, region, 2.0) == 1
    region[(3,) * len(shape)] = 0.1
    assert pointing(attention, region) == 1


@SHAPES
def test_side_follows_the_heavier_half_and_mirrors_with_it(shape) -> None:
    left, region = np.ones(shape), np.zeros(shape)
    left[..., 0] = 10
    region[..., :3] = 1
    assert side_accuracy(left, region) == 1
    assert side_accuracy(np.flip(left, -1), region) == 0
    assert side_accuracy(np.flip(left, -1), np.flip(region, -1)) == 1
    assert np.isnan(side_accuracy(left, np.ones(shape)))


def test_side_ignores_the_middle_of_an_odd_axis() -> None:
    region = np.array([0, 0, 1, 0, 1])
    assert side_accuracy(np.array([1, 1, 9, 1, 2]), region) == 1
    assert side_accuracy(np.array([1, 2, 9, 1, 1]), region) == 0


@SHAPES
def test_slice_with_most_attention(shape) -> None:
    attention, region = np.full(shape, 0.1), np.zeros(shape)
    attention[2] = 1
    region[2, ..., 0] = 1
    assert slice_hit(attention, region) == 1
    assert slice_hit(attention, np.roll(region, 1, axis=0)) == 0


@SHAPES
def test_entropy_of_one_voxel_is_zero(shape) -> None:
    single = np.zeros(shape)
    single[(1,) * len(shape)] = 7
    assert entropy(single) == 0
    assert 0 < entropy(random_map(shape)) < np.log(np.prod(shape))


@SHAPES
def test_thresholded_map_equals_a_mask_at_the_right_fraction(shape) -> None:
    region = corner_region(shape)
    attention = random_map(shape) * 0.3 / random_map(shape).max() + region
    assert thresholded_iou(attention, region, fraction=0.5) == 1
    assert thresholded_iou(attention, region, fraction=0.0) == pytest.approx(region.mean())


@pytest.mark.parametrize("dims", [2, 3])
def test_attention_on_one_of_two_lesions_recalls_half(dims) -> None:
    boxes = np.array([[0] * dims + [2] * dims, [4] * dims + [6] * dims], float)
    attention = region_of(boxes[:1], (8,) * dims)
    assert mass_in_region(attention, region_of(boxes, (8,) * dims)) == 1  # and yet one lesion is missed
    assert lesion_recall(attention, boxes) == 0.5
    assert lesion_recall(region_of(boxes, (8,) * dims), boxes) == 1
    assert lesion_recall(region_of(boxes, (8,) * dims), boxes, mass=0.6) == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_peaks_are_found_at_their_centres_best_first(dims) -> None:
    attention = np.full((12,) * dims, 0.01)
    attention[(2,) * dims], attention[(8,) * dims], attention[(5,) * dims] = 0.6, 1.0, 0.2
    attention[(*(8,) * (dims - 1), 9)] = 1.0
    positions, values = peaks(attention, fraction=0.5)
    assert positions.tolist() == [[8.5] * (dims - 1) + [9.0], [2.5] * dims]
    assert values / values[0] == pytest.approx([1, 0.6])
    assert len(peaks(attention, fraction=0.1)[0]) == 3


@SHAPES
def test_without_a_region_everything_is_undefined(shape) -> None:
    attention, empty = random_map(shape), np.zeros(shape)
    values = [metric(attention, empty) for metric in (mass_in_region, enrichment, pointing, side_accuracy, slice_hit)]
    values += [thresholded_iou(attention, empty, 0.5), lesion_recall(attention, np.zeros((0, 2 * len(shape))))]
    assert np.isnan(values).all()


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="output of a softmax"):
        entropy(np.array([-1.0, 2.0]))
    with pytest.raises(InputError, match="output of a softmax"):
        entropy(np.array([np.nan, 2.0]))
    with pytest.raises(InputError, match="upsample"):
        mass_in_region(np.ones((2, 2)), np.ones((4, 4)))
