import numpy as np
import pytest
from scipy import ndimage

from cphloc.data.augment.intensity import Brightness, Contrast, Gamma, GaussBlur, GaussNoise, LowResolution

SHAPES = [(2, 24, 30), (2, 12, 24, 30)]


@pytest.fixture(params=SHAPES, ids=["2d", "3d"])
def image(request):
    image = np.random.default_rng(0).normal(size=request.param).astype(np.float32)
    image[1] = image[1] * 50 + 1000
    return image


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def test_gamma_keeps_the_range_and_bends_between(image, rng):
    out = Gamma((2, 2))(image, rng)
    for channel, result in zip(image, out, strict=True):
        low, extent = channel.min(), np.ptp(channel)
        np.testing.assert_allclose(result, ((channel - low) / extent) ** 2 * extent + low, rtol=1e-4, atol=1e-3)


def test_inverted_gamma_bends_the_other_way(image, rng):
    np.testing.assert_allclose(Gamma((2, 2), invert=1.0)(image, rng), -Gamma((2, 2))(-image, rng), rtol=1e-5)


def test_noise_is_a_fraction_of_each_channel(image, rng):
    added = GaussNoise((0.5, 0.5))(image, rng) - image
    for noise, channel in zip(added, image, strict=True):
        assert noise.std() == pytest.approx(0.5 * channel.std(), rel=0.1)
        assert abs(noise.mean()) < 0.1 * channel.std()


def test_blur_is_gaussian_within_channels(image, rng):
    expected = np.stack([ndimage.gaussian_filter(c.astype(float), 1.0, mode="nearest", truncate=3) for c in image])
    np.testing.assert_allclose(GaussBlur((1, 1))(image, rng), expected, rtol=1e-4, atol=1e-3)


def test_brightness_shifts_by_a_fraction_of_the_deviation(image, rng):
    shift = Brightness((0.25, 0.25))(image, rng) - image
    for moved, channel in zip(shift, image, strict=True):
        np.testing.assert_allclose(moved, 0.25 * channel.std(), rtol=1e-2)


def test_contrast_scales_about_the_mean_and_clips(image, rng):
    out = Contrast((0.5, 0.5))(image, rng)
    np.testing.assert_allclose(
        out.std(axis=tuple(range(1, image.ndim))), 0.5 * image.std(axis=tuple(range(1, image.ndim))), rtol=1e-3
    )
    stronger = Contrast((3, 3))(image, rng)
    assert stronger.min() == image.min()
    assert stronger.max() == image.max()


def test_low_resolution_keeps_a_ramp_and_smooths_detail(image, rng):
    ramp = np.broadcast_to(np.arange(image.shape[-1], dtype=np.float32), image.shape)
    out = LowResolution((0.5, 0.5))(ramp, rng)
    assert out.shape == ramp.shape
    np.testing.assert_allclose(out, ramp, atol=1.01)
    assert LowResolution((0.5, 0.5))(image, rng)[0].std() < image[0].std()
    np.testing.assert_allclose(LowResolution((1, 1))(image, rng), image, rtol=1e-6)


def test_exponents_fill_the_documented_range(rng):
    middle = np.array([[0, 0.5, 1]], np.float32)
    exponents = [np.log(Gamma()(middle, rng)[0, 1]) / np.log(0.5) for _ in range(400)]
    assert (min(exponents), max(exponents)) == pytest.approx((0.7, 1.5), abs=0.02)
    assert min(exponents) >= 0.7 - 1e-5
    assert max(exponents) <= 1.5 + 1e-5
