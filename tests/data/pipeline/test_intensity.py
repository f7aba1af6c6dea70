from __future__ import annotations

import numpy as np
import pytest

from cphloc.data.pipeline.intensity import CT, Scale, Unchanged, Window, ZScore, fit_intensity, parse_intensity
from cphloc.errors import InputError
from cphloc.registry import catalogue

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 40_000.0])
@pytest.mark.parametrize("shape", [(20, 30), (10, 20, 30)], ids=["2-D", "3-D"])
def test_zscore_does_not_depend_on_the_scale(shape, scale: float):
    values = RNG.normal(3.0, 2.0, shape)
    found = ZScore()((values * scale).astype(np.float32))
    assert found.dtype == np.float32
    assert found.mean() == pytest.approx(0, abs=1e-4)
    assert found.std() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(found, ZScore()(values), atol=1e-3)


def test_zscore_of_large_integers_does_not_overflow():
    values = RNG.integers(20_000, 32_000, (40, 40, 40)).astype(np.int16)
    found = ZScore()(values)
    assert found.mean() == pytest.approx(0, abs=1e-4)
    assert found.std() == pytest.approx(1, abs=1e-4)


def test_zscore_of_a_constant_image_is_zero():
    np.testing.assert_array_equal(ZScore()(np.full((3, 3), 7.0)), np.zeros((3, 3)))


def test_a_hot_voxel_does_not_set_the_scale_where_percentiles_clip_it():
    values = RNG.normal(0, 1, 10_000)
    values[0] = 1e7
    assert ZScore()(values)[1:].std() < 0.01
    assert ZScore(clip=(0.5, 99.5))(values).std() == pytest.approx(1, abs=1e-3)


def test_ct_clips_and_standardizes():
    found = CT(-100, 200, 50, 25)(np.array([-1024, -100, 50, 75, 200, 3000], np.int16))
    np.testing.assert_allclose(found, [-6, -6, 0, 1, 6, 6])


def test_ct_constants_are_those_of_the_pooled_foreground():
    """Isensee et al. 2021, nnU-Net: percentiles 0.5 and 99.5, mean and std of all foreground voxels."""
    volumes = [RNG.normal(40, 20, (10, 20, 20)), RNG.normal(80, 10, (10, 20, 20))]
    masks = [RNG.random((10, 20, 20)) < 0.3, RNG.random((10, 20, 20)) < 0.1]
    pooled = np.concatenate([v[m] for v, m in zip(volumes, masks, strict=True)])
    scheme = fit_intensity(CT(), volumes, masks)
    assert (scheme.low, scheme.high) == pytest.approx(tuple(np.percentile(pooled, (0.5, 99.5))))
    assert (scheme.mean, scheme.std) == pytest.approx((pooled.mean(), pooled.std()))


def test_no_case_outweighs_the_others_by_its_size():
    small, large = np.zeros((10, 10, 10)), np.ones((60, 60, 60))
    scheme = fit_intensity(CT(), [large, small], [np.ones_like(large), np.ones_like(small)])
    assert scheme.mean == pytest.approx(10_000 / 11_000)
    assert scheme == fit_intensity(CT(), [large, small], [np.ones_like(large), np.ones_like(small)])


def test_without_foreground_every_voxel_counts():
    volume = RNG.normal(10, 2, (5, 5, 5))
    assert fit_intensity(CT(), [volume], [None]).mean == pytest.approx(volume.mean())
    assert fit_intensity(CT(), [volume], [np.zeros_like(volume)]).mean == pytest.approx(volume.mean())


def test_only_what_is_missing_is_fitted():
    assert fit_intensity(ZScore(), [np.zeros((2, 2))], [None]) == ZScore()
    assert fit_intensity(CT(1, 2, 3, 4), [np.zeros((2, 2))], [None]) == CT(1, 2, 3, 4)
    with pytest.raises(InputError, match="needs the constants"):
        CT()(np.zeros((2, 2)))


def test_windows():
    values = np.array([-1000.0, -160.0, 40.0, 240.0, 3000.0])
    np.testing.assert_allclose(Window(40, 400)(values), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(Window()(values, window=(40, 400)), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(Window()(values), (values + 1000) / 4000)
    np.testing.assert_allclose(Scale(0, 255)(np.array([0, 51, 255], np.uint8)), [0, 0.2, 1], atol=1e-6)
    np.testing.assert_array_equal(Unchanged()(values), values)


@pytest.mark.parametrize("name", catalogue.cards("intensity"))
def test_a_scheme_survives_its_own_dictionary(name: str):
    constants = {"ct": (1, 2, 3, 4), "fixed": (1.0, 2.0, 0.0, 5.0)}
    scheme = catalogue.resolve("intensity", name)(*constants.get(name, ()))
    assert parse_intensity(scheme.to_dict(), 1) == [scheme]


def test_the_form_of_a_recipe():
    assert parse_intensity("zscore", 2) == [ZScore(), ZScore()]
    mixed = [{"type": "window", "center": 40, "width": 400}, "none"]
    assert parse_intensity(mixed, 2) == [Window(40, 400), Unchanged()]
    assert parse_intensity({"type": "zscore", "clip": [1, 99]}, 1) == [ZScore((1, 99))]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("zscor", "unknown intensity 'zscor'; did you mean 'zscore'?"),
        ({"type": "window", "centre": 40}, "has no argument 'centre'; did you mean 'center'?"),
        (["zscore"], "lists 1 schemes for 2 channels"),
        ({"type": "window", "center": 40}, "set center and width"),
        ({"type": "scale", "low": 3, "high": 1}, "high must be above low"),
        ({"type": "zscore", "clip": [99, 1]}, "clip must be two increasing percentiles"),
        ({"type": "ct", "low": "a"}, "low must be number or null"),
        ({"type": "ct", "low": 0, "high": 1, "mean": 0, "std": 0}, "std must be number > 0 or null"),
    ],
)
def test_mistakes_in_a_recipe_are_named(spec, message: str):
    with pytest.raises(InputError) as caught:
        parse_intensity(spec, 2)
    assert message in str(caught.value)
