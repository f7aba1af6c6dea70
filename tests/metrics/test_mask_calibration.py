"""Calibration of masks, against a loop over voxels and against frequencies that are known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cphloc.metrics.mask_calibration import mask_calibration_error

both = pytest.mark.parametrize("dims", [2, 3])


def scene(dims, side=24, seed=0):
    """A probability of each voxel that falls with the distance from the centre, and a mask drawn from it."""
    rng = np.random.default_rng(seed)
    place = np.indices((side,) * dims) - (side - 1) / 2
    probabilities = 1 / (1 + np.exp((np.linalg.norm(place, axis=0) - side / 4) / 3))
    return probabilities, (rng.random(probabilities.shape) < probabilities).astype(np.uint8)


def by_loop(probabilities, mask, label, margin, bins=10):
    """The same error, voxel by voxel."""
    inside = [index for index in itertools.product(*map(range, mask.shape)) if mask[index] == label]
    low, high = np.min(inside, axis=0) - margin, np.max(inside, axis=0) + margin
    found = [[] for _ in range(bins)]
    for index in itertools.product(*map(range, mask.shape)):
        if all(a <= i <= b for a, i, b in zip(low, index, high, strict=True)) and mask[index] != 255:
            p = probabilities[index]
            found[min(int(p * bins), bins - 1)].append((p, mask[index] == label))
    voxels = sum(map(len, found))
    gaps = [len(of) / voxels * abs(np.mean([p for p, _ in of]) - np.mean([y for _, y in of])) for of in found if of]
    return sum(gaps)


@both
def test_the_error_is_that_of_a_loop_over_the_voxels(dims):
    probabilities, mask = scene(dims, side=12)
    mask[mask == 1] = 2
    mask[0] = 255
    for margin in (0, 1, 3):
        found = mask_calibration_error(probabilities, mask, label=2, margin=margin)
        assert found == pytest.approx(by_loop(probabilities, mask, 2, margin), abs=1e-9)


@both
def test_probabilities_that_are_frequencies_have_a_small_error_and_sharpened_ones_a_large(dims):
    probabilities, mask = scene(dims, side=40)
    sharpened = probabilities**4 / (probabilities**4 + (1 - probabilities) ** 4)
    true, sure = (mask_calibration_error(p, mask) for p in (probabilities, sharpened))
    assert true < 0.03
    assert sure > 3 * true


@both
def test_voxels_far_from_the_object_do_not_count(dims):
    probabilities, mask = scene(dims)
    inner = (slice(3, -3),) * dims
    near = np.zeros_like(mask)
    near[inner] = mask[inner]
    far = np.where(np.pad(np.ones_like(near), 30), np.pad(probabilities, 30), 0.7)
    assert mask_calibration_error(far, np.pad(near, 30), margin=2) == mask_calibration_error(
        probabilities, near, margin=2
    )


@both
def test_an_image_without_the_class_has_no_error(dims):
    probabilities, mask = scene(dims)
    assert math.isnan(mask_calibration_error(probabilities, np.zeros_like(mask)))
