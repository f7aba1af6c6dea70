import numpy as np
import pytest

from cphloc.data.augment.spatial import Affine, Elastic

SIZES = [(20, 24), (12, 20, 24)]


@pytest.mark.parametrize("size", SIZES)
def test_affine_is_a_rotation_times_a_scale_in_millimetres(size):
    spacing = np.array((2.5, 1.0, 1.5)[: len(size)])
    rng = np.random.default_rng(0)
    for _ in range(20):
        warp = Affine(rotate=(-30, 30), scale=(0.5, 2.0)).draw(rng, size, tuple(spacing)).warp
        physical = warp.matrix * spacing[:, None] / spacing
        scale = np.abs(np.linalg.det(physical)) ** (1 / len(size))
        assert 0.5 <= scale <= 2.0
        np.testing.assert_allclose(physical.T @ physical, np.eye(len(size)) * scale**2, atol=1e-9)


def test_thick_slices_are_not_tilted():
    warp = Affine(rotate=(20, 20), scale=(1, 1)).draw(np.random.default_rng(0), (8, 32, 32), (5.0, 1.0, 1.0)).warp
    np.testing.assert_array_equal(warp.matrix[0], [1, 0, 0])
    assert warp.matrix[1, 2] == pytest.approx(-np.sin(np.deg2rad(20)))


@pytest.mark.parametrize("size", SIZES)
def test_scale_above_one_enlarges(size):
    warp = Affine(rotate=(0, 0), scale=(2, 2)).draw(np.random.default_rng(0), size, (1.0,) * len(size)).warp
    np.testing.assert_allclose(warp.matrix, np.eye(len(size)) / 2)


@pytest.mark.parametrize("size", SIZES)
def test_elastic_is_smooth_and_as_strong_as_asked(size):
    fields = [
        Elastic(8, (2, 2)).draw(np.random.default_rng(s), size, (1.0,) * len(size)).warp.displacement for s in range(20)
    ]
    fields = np.stack(fields)
    assert fields.shape == (20, len(size), *size)
    # A cubic B-spline of unit variance control points keeps the squares of its weights: about 0.48 along every axis.
    assert fields.std() == pytest.approx(2 * 0.4794 ** (len(size) / 2), rel=0.15)
    steps = np.abs(np.diff(fields, axis=-1)).max()
    assert steps < 2 * 2 * 4 / 8


def test_elastic_moves_by_millimetres():
    spacing = (4.0, 1.0, 1.0)
    fields = [
        Elastic(8, (2, 2)).draw(np.random.default_rng(s), (16, 16, 16), spacing).warp.displacement for s in range(9)
    ]
    deviation = np.stack(fields).std(axis=(0, 2, 3, 4))
    assert deviation[0] * 4 == pytest.approx(deviation[1:].mean(), rel=0.3)


def test_angles_and_scales_fill_the_documented_ranges():
    rng, square, plane = np.random.default_rng(0), (8, 8), (1.0, 1.0)
    turns = np.array([Affine().draw(rng, square, plane).warp.matrix for _ in range(1000)])
    angles, scales = np.rad2deg(np.arctan2(turns[:, 1, 0], turns[:, 0, 0])), np.linalg.det(turns) ** -0.5
    for values, low, high in ((angles, -15, 15), (scales, 0.85, 1.2)):
        assert (values.min(), values.max()) == pytest.approx((low, high), rel=0.01)
        assert low <= values.min()
        assert values.max() <= high
