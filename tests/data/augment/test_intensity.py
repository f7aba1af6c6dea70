import numpy as np
import pytest
from scipy import ndimage

from cphloc.data.augment.augmentation import Augmentation
from cphloc.data.augment.intensity import (
    Brightness,
    Contrast,
    Gamma,
    GaussBlur,
    GaussNoise,
    LowResolution,
    MultiplicativeBrightness,
)
from cphloc.errors import InputError

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


ONCE = {
    "gamma": Gamma((1.5, 1.5), retain_stats=1.0),
    "inverted gamma": Gamma((1.5, 1.5), invert=1.0, retain_stats=1.0),
    "plain gamma": Gamma((1.5, 1.5)),
    "contrast": Contrast((1.25, 1.25)),
    "contrast beyond the range": Contrast((1.25, 1.25), preserve_range=False),
    "multiplicative brightness": MultiplicativeBrightness((0.75, 0.75)),
    "low resolution": LowResolution((0.5, 0.5)),
    "low resolution but along axis 0": LowResolution((0.5, 0.5), axes=[-2, -1]),
}

NNUNET = {
    ("gamma", 2): [0.46572, -0.6133, 1.0358, 2.89612, -0.45799],
    ("inverted gamma", 2): [0.95868, -1.16045, 1.53448, 2.57954, -0.56992],
    ("plain gamma", 2): [0.12577, -0.99095, 0.71577, 2.64108, -0.8302],
    ("contrast", 2): [0.67779, -0.99964, 1.37433, 2.99976, -0.86141],
    ("contrast beyond the range", 2): [0.67779, -1.38509, 1.37433, 3.22674, -0.86141],
    ("multiplicative brightness", 2): [0.53832, -0.69941, 0.95624, 2.06769, -0.3852],
    ("low resolution", 2): [-0.99964, 0.02605, 1.98505, 1.12285, -0.15723],
    ("gamma", 3): [0.46376, -0.177, -0.48925, -0.6197, -0.61309],
    ("inverted gamma", 3): [0.96095, 0.04361, -0.65281, -1.20365, -1.14762],
    ("plain gamma", 3): [0.12577, -0.53771, -0.86103, -0.99611, -0.98927],
    ("contrast", 3): [0.67289, -0.28818, -0.94238, -0.9997, -0.9997],
    ("contrast beyond the range", 3): [0.67289, -0.28818, -0.94238, -1.42746, -1.37923],
    ("multiplicative brightness", 3): [0.53832, -0.03832, -0.43084, -0.72189, -0.69295],
    ("low resolution", 3): [-0.54447, -0.21478, 0.36936, 1.31216, 1.80045],
    ("low resolution but along axis 0", 3): [0.05076, -0.24082, -0.67327, -0.93376, -0.95273],
}
"""Voxels 0, 7, 13, 21 and 29 of the results of batchgeneratorsv2 0.3.6, nnU-Net's transforms, for the same image."""


@pytest.mark.parametrize(("name", "dims"), NNUNET, ids=lambda value: str(value))
def test_values_are_those_of_nnunets_transforms(name, dims, rng):
    size = {2: (6, 5), 3: (4, 6, 5)}[dims]
    image = (2 * np.sin(np.linspace(-3, 4, np.prod(size))) + 1).astype(np.float32).reshape(1, *size)
    out = ONCE[name](image, rng)
    assert out.ravel()[[0, 7, 13, 21, 29]] == pytest.approx(NNUNET[name, dims], abs=2e-5)


@pytest.mark.parametrize("invert", [0.0, 1.0])
def test_gamma_can_keep_mean_and_deviation_of_every_channel(image, rng, invert):
    out = Gamma((2, 2), invert=invert, retain_stats=1.0)(image, rng)
    axes = tuple(range(1, image.ndim))
    assert out.mean(axes) == pytest.approx(image.mean(axes), rel=1e-4, abs=1e-4)
    assert out.std(axes) == pytest.approx(image.std(axes), rel=1e-4)
    assert not np.allclose(out, image, rtol=1e-2)


@pytest.mark.parametrize("transform", ONCE.values(), ids=ONCE)
def test_a_constant_patch_stays_finite_and_constant(transform, image, rng):
    out = transform(np.full_like(image, 3), rng)
    assert np.ptp(out) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "kind", [Brightness, Contrast, Gamma, GaussBlur, GaussNoise, LowResolution, MultiplicativeBrightness]
)
def test_channels_can_be_transformed_one_by_one(image, rng, kind):
    """All with the same values by default; with a probability per channel each for itself, and the input is kept."""
    twice = np.stack([image[0], image[0]])
    if kind is not GaussNoise:
        one, other = kind()(twice, rng)
        np.testing.assert_array_equal(one, other)
    one, other = kind(p_per_channel=1.0)(twice, rng)
    assert not np.allclose(one, other, atol=1e-6)
    np.testing.assert_array_equal(twice, np.stack([image[0], image[0]]))
    np.testing.assert_array_equal(kind(p_per_channel=0.0)(twice, rng), twice)
    transform = kind(p_per_channel=0.5)
    changed = np.mean([(transform(twice, rng) != twice).any(axis=tuple(range(1, twice.ndim))) for _ in range(60)])
    assert 0.35 < changed < 0.65


def test_blur_can_differ_between_axes(image, rng):
    impulse = np.zeros_like(image)
    impulse[(slice(None), *(n // 2 for n in image.shape[1:]))] = 1
    out = GaussBlur((0.5, 2.0), per_axis=True)(impulse, rng)[0]
    peak = np.unravel_index(out.argmax(), out.shape)
    beside = [out[tuple(i + (a == axis) for a, i in enumerate(peak))] for axis in range(out.ndim)]
    assert len({round(float(value), 6) for value in beside}) == out.ndim


def test_low_resolution_can_differ_between_axes(image, rng):
    out = LowResolution((0.3, 1.0), per_axis=True)(image, rng)
    assert out.shape == image.shape
    alike = LowResolution((0.3, 1.0))(image, np.random.default_rng(1))
    assert not np.allclose(out, alike)


def test_an_axis_that_does_not_exist_is_named_before_training():
    with pytest.raises(InputError, match="LowResolution: axis 2 does not exist in 2-D"):
        Augmentation([{"type": "LowResolution", "axes": [2]}], dims=2)
    with pytest.raises(InputError, match="Flip: axis 2 does not exist in 2-D"):
        Augmentation([{"type": "Flip", "axes": [2]}], dims=2)
