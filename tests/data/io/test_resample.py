from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from cphloc.data.io.itk import to_itk
from cphloc.data.io.resample import resample, resample_labels, source_rows
from cphloc.structures.geometry import Geometry

both = pytest.mark.parametrize("dims", [2, 3])


def grid(dims: int, degrees: float = 15.0, spacing=(2.0, 0.8, 1.3)) -> Geometry:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])[:dims, :dims]
    return Geometry((12, 14, 16)[-dims:], spacing[-dims:], (-3.0, 2.0, 9.0)[:dims], turn[:, ::-1])


@both
def test_enlarging_agrees_with_simpleitk_between_oblique_grids(dims: int):
    source, target = grid(dims), grid(dims, 0.0, (0.5, 0.5, 0.5))
    values = np.random.default_rng(0).random(source.shape).astype(np.float32)
    expected = sitk.Resample(
        to_itk(values, source),
        to_itk(np.zeros(target.shape, np.float32), target),
        sitk.Transform(),
        sitk.sitkLinear,
        -7.0,
    )
    np.testing.assert_allclose(
        resample(values[None], source, target, -7.0)[0], sitk.GetArrayFromImage(expected), atol=1e-6
    )


@both
@pytest.mark.parametrize("spacing_mm", [0.5, 3.7])
def test_a_constant_stays_constant_up_to_the_border(dims: int, spacing_mm: float):
    source = grid(dims)
    target = source.resampled((spacing_mm,) * dims)
    np.testing.assert_allclose(resample(np.full((2, *source.shape), 5.0), source, target), 5.0, rtol=1e-5)


@both
def test_the_same_grid_returns_the_input(dims: int):
    values, labels = np.zeros((1, *grid(dims).shape)), np.zeros(grid(dims).shape, np.uint8)
    assert resample(values, grid(dims), grid(dims)) is values
    assert resample_labels(labels, grid(dims), grid(dims)) is labels


@both
def test_shrinking_averages_neighbours_so_the_mean_survives_and_noise_does_not(dims: int):
    source = Geometry.regular((33,) * dims)
    values = np.random.default_rng(0).random((1, *source.shape)).astype(np.float32)
    small = resample(values, source, source.resampled((3.0,) * dims))
    assert small.shape == (1, *(11,) * dims)
    assert small.mean() == pytest.approx(values.mean(), abs=2e-2)
    assert small.std() < values.std() / 2**dims


@both
@pytest.mark.parametrize("method", ["linear", "nearest"])
def test_labels_stay_labels_whatever_their_numbers(dims: int, method: str):
    source = grid(dims)
    labels = np.random.default_rng(0).choice([0, 3, 255], source.shape).astype(np.uint8)
    moved = resample_labels(labels, source, source.resampled((0.4,) * dims), method)
    assert moved.dtype == np.uint8
    assert set(np.unique(moved)) == {0, 3, 255}


@both
def test_outside_the_field_of_view_is_background(dims: int):
    source = grid(dims)
    target = source.crop((-5,) * dims, tuple(n + 10 for n in source.shape))
    moved = resample_labels(np.ones(source.shape, np.uint8), source, target)
    assert moved.sum() == np.prod(source.shape)


@both
def test_linear_labels_change_where_the_interpolated_mask_passes_one_half(dims: int):
    source = grid(dims)
    target = source.resampled((0.37,) * dims)
    labels = (np.random.default_rng(0).random(source.shape) < 0.4).astype(np.uint8)
    share = resample(labels[None].astype(np.float32), source, target)[0]
    clear = np.abs(share - 0.5) > 1e-3
    np.testing.assert_array_equal(2 * (share > 0.5)[clear], resample_labels(2 * labels, source, target)[clear])


@both
def test_turning_at_the_same_spacing_smooths_nothing(dims: int):
    source = Geometry.regular((14,) * dims)
    c = np.sqrt(0.5)
    turn = np.array([[c, -c, 0], [c, c, 0], [0, 0, 1.0]])[:dims, :dims]
    target = Geometry((9,) * dims, (1.0,) * dims, (7.0, 2.0, 3.0)[:dims], turn[:, ::-1])
    values = np.random.default_rng(0).random(source.shape).astype(np.float32)
    reference = to_itk(np.zeros(target.shape, np.float32), target)
    expected = sitk.Resample(to_itk(values, source), reference, sitk.Transform(), sitk.sitkLinear, 0.0)
    np.testing.assert_allclose(
        resample(values[None], source, target, 0.0)[0], sitk.GetArrayFromImage(expected), atol=1e-6
    )


@both
@pytest.mark.parametrize("spacing_mm", [0.7, 2.0, 3.3])
def test_rows_within_reach_are_all_that_a_part_of_the_target_needs(dims: int, spacing_mm: float):
    source = Geometry.regular((40,) + (9,) * (dims - 1))
    target = source.resampled((spacing_mm,) * dims)
    values = np.random.default_rng(0).random((1, *source.shape)).astype(np.float32)
    whole = resample(values, source, target)
    rest = (0,) * (dims - 1)
    for first, stop in [(0, 2), (3, 6), (target.shape[0] - 2, target.shape[0])]:
        low, high = source_rows(source, target, first, stop)
        part = source.crop((low, *rest), (high - low, *source.shape[1:]))
        rows = target.crop((first, *rest), (stop - first, *target.shape[1:]))
        np.testing.assert_allclose(resample(values[:, low:high], part, rows), whole[:, first:stop], atol=1e-6)
