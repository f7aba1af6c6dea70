"""Thresholds and components of masks chosen outside the training, against masks made and scored by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cphloc.evaluation.mask_trials import (
    GRID,
    MaskCase,
    component_trials,
    dice_by_threshold,
    probability_trial,
    threshold_trial,
)
from cphloc.structures.geometry import Geometry

both = pytest.mark.parametrize("dims", [2, 3])
TRIED = ("largest", "min_size")


def soft(mask, classes, sure=0.9):
    """Class probabilities ``(K + 1, *S)`` of which the most probable class is ``mask``."""
    chosen = np.arange(classes + 1).reshape(-1, *(1,) * mask.ndim) == mask
    return np.where(chosen, sure, (1 - sure) / classes)


def case_of(predicted, truth, patient="p", spacing=None, classes=2):
    grid = Geometry.regular(truth.shape, spacing or (1.0,) * truth.ndim)
    return MaskCase.of(soft(predicted, classes), truth.astype(np.uint8), grid, patient)


def blobs(dims, *edges):
    """A mask with a cube of class 1 from each ``(first, last)``, along the diagonal."""
    mask = np.zeros((16,) * dims, np.uint8)
    for first, last in edges:
        mask[(slice(first, last),) * dims] = 1
    return mask


def dice(predicted, truth):
    return 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())


def test_dice_of_each_threshold_is_that_of_the_mask_it_makes():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([1, 1, 1], size=(6, 7, 8)).transpose(3, 0, 1, 2)
    truth = random.integers(0, 3, (6, 7, 8)).astype(np.uint8)
    truth[0] = 255
    known = truth != 255
    found = dice_by_threshold(probabilities, truth)
    case = MaskCase.of(probabilities, truth, Geometry.regular(truth.shape), "p")
    for row, threshold in zip(found, [None, *GRID], strict=True):
        for number in (1, 2):
            best = probabilities[1:].argmax(axis=0) + 1 == number
            mask = (
                best & (probabilities[1:].max(axis=0) >= threshold) if threshold else probabilities.argmax(0) == number
            )
            assert np.array_equal(case.mask(threshold) == number, mask)
            mask, true = mask & known, (truth == number) & known
            assert row[number - 1] == pytest.approx(2 * (mask & true).sum() / (mask.sum() + true.sum()))


def test_a_timid_model_gets_a_lower_mask_threshold_and_a_good_one_none():
    truth = np.zeros((8, 8), np.uint8)
    truth[2:6, 2:6] = 1
    for inside, lower in ((0.3, True), (0.9, False)):
        foreground = np.where(truth == 1, inside, 0.1)
        case = MaskCase.of(np.stack([1 - foreground, foreground]), truth, Geometry.regular(truth.shape), "p")
        empty = MaskCase.of(np.stack([1 - foreground, foreground]), np.zeros_like(truth), case.geometry, "e")
        threshold, trial = threshold_trial([case] * 9 + [empty], {1: "a"})
        assert (threshold, trial.why) == (None, "9 cases with an object; at least 10 are needed")
        threshold, trial = threshold_trial([case] * 10, {1: "a"})
        assert trial.kept is lower
        assert (0.1 < threshold <= inside) if lower else threshold is None
        assert (trial.before, trial.after, trial.gain) == ((0, 1, 1) if lower else (1, 1, 0))


def test_a_class_that_nobody_looked_for_does_not_count():
    truth = np.zeros((4, 4), np.uint8)
    truth[1] = 1
    foreground = np.full((4, 4), 0.3)
    probabilities = np.stack([1 - foreground, foreground])
    case = MaskCase.of(probabilities, truth, Geometry.regular(truth.shape), "p", np.array([False]))
    assert threshold_trial([case] * 20, {1: "a"})[0] is None
    assert component_trials([case], 1, "a", "dice", None, TRIED) == []


def test_a_threshold_that_harms_one_class_is_not_kept():
    """Class 1 gains 1 and class 2, whose surroundings are as probable as class 1, loses a third."""
    truth = np.zeros((4, 12), np.uint8)
    truth[:, :4], truth[:, 8:] = 1, 2
    probabilities = np.zeros((3, 4, 12))
    probabilities[1, :, :4], probabilities[2, :, 8:], probabilities[2, :, 4:8] = 0.3, 0.9, 0.3
    probabilities[0] = 1 - probabilities.sum(axis=0)
    case = MaskCase.of(probabilities, truth, Geometry.regular(truth.shape), "p")
    threshold, trial = threshold_trial([case] * 10, {1: "a", 2: "b"})
    assert threshold is None
    assert trial.gain == pytest.approx((1 - 1 / 3) / 2)
    assert trial.why == "b loses 0.333"


@both
def test_the_largest_component_is_kept_where_the_others_are_false(dims):
    truth = blobs(dims, (2, 8))
    stray, exact = blobs(dims, (2, 8), (12, 14)), truth
    cases = [case_of(stray, truth, "a"), case_of(exact, truth, "b")]
    trial, *more = component_trials(cases, 1, "liver", "dice", None, TRIED)
    assert (trial.option, trial.of, trial.kept, trial.n) == ("largest", "liver", True, 2)
    assert trial.gain == pytest.approx((1 - dice(stray > 0, truth > 0)) / 2)
    assert trial.after == 1
    assert more == [], "no least size changes anything then"


@both
def test_the_largest_component_is_not_kept_where_others_are_true(dims):
    truth = blobs(dims, (2, 8), (12, 15))
    trials = component_trials([case_of(truth, truth)], 1, "cyst", "dice", None, ("largest",))
    assert [(t.kept, t.gain < 0, t.why) for t in trials] == [(False, True, "gains nothing")]


@both
def test_a_least_size_is_physical_and_removes_false_specks_alone(dims):
    """Two true objects, and a speck of one voxel: every size above it and below the objects is as good."""
    truth = blobs(dims, (2, 7), (11, 15))
    predicted = truth | blobs(dims, (9, 10))
    spacing = (2.0, 1.5, 0.5)[:dims]
    cases = [case_of(predicted, truth, p, spacing) for p in "ab"]
    (trial,) = component_trials(cases, 1, "cyst", "dice", None, ("min_size",))
    labels, _ = ndimage.label(truth, np.ones((3,) * dims))
    smallest = np.bincount(labels.ravel())[1:].min() * np.prod(spacing)
    assert trial.kept
    assert trial.after == 1
    assert np.prod(spacing) < float(trial.value) <= smallest


@both
def test_removing_what_is_annotated_nowhere_is_a_gain(dims):
    """Without an object, any voxel is false: Dice is 0 with it, and the mask is right without."""
    empty, truth = blobs(dims), blobs(dims, (2, 8))
    cases = [case_of(blobs(dims, (3, 4)), empty, "a"), case_of(truth, truth, "b"), case_of(empty, empty, "c")]
    (trial,) = component_trials(cases, 1, "cyst", "dice", None, TRIED)
    assert (trial.option, trial.kept, trial.before, trial.after, trial.n) == ("min_size", True, 0.5, 1.0, 2)


@both
def test_another_metric_decides(dims):
    truth = blobs(dims, (2, 8))
    cases = [case_of(truth | blobs(dims, (12, 13)), truth, p) for p in "ab"]
    trial, *_ = component_trials(cases, 1, "liver", "hd95_mm", None, ("largest",))
    assert (trial.metric, trial.after, trial.kept) == ("hd95_mm", 0, trial.before > 0)


def screened(dims, probabilities, objects=10):
    """As many images as probabilities, each outlined alike; the first have the object, the others nothing."""
    truth = blobs(dims, (2, 8))
    grid, seen = Geometry.regular(truth.shape), soft(truth, 2)
    masks = [truth if k < objects else np.zeros_like(truth) for k in range(len(probabilities))]
    return [MaskCase.of(seen, masks[k], grid, f"p{k}", None, {1: p}) for k, p in enumerate(probabilities)]


@both
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_class_is_removed_where_its_label_is_improbable(dims, temperature):
    """Dice is 1 in images with the object, and 0 in those without, until the false outline is removed."""
    cases = screened(dims, [0.9] * 10 + [0.1] * 10)
    least, trial = probability_trial(cases, 1, "tumour", None, temperature)
    odds = (0.9 / 0.1) ** (1 / temperature)
    assert 1 / (1 + odds) < least < odds / (1 + odds)
    assert (trial.option, trial.of, trial.kept) == ("min_probability", "tumour", True)
    assert (trial.before, trial.after, trial.gain, trial.n) == (0.5, 1.0, 0.5, 20)
    after = [case.without_unlikely(1, least, temperature).mask(None).any() for case in cases]
    assert after == [True] * 10 + [False] * 10


@both
def test_labels_that_tell_nothing_remove_nothing(dims):
    """Below any probability lie as many images with the object as without: nothing is gained."""
    cases = screened(dims, [0.2, 0.8] * 10)
    least, trial = probability_trial(cases, 1, "tumour", None, 1.0)
    assert (least, trial.kept, trial.gain) == (None, False, 0.0)
    assert trial.why == "gains nothing"


@pytest.mark.parametrize(("objects", "why"), [(11, "11 cases with and 9 without it"), (9, "9 cases with and 11")])
def test_a_least_probability_needs_images_with_and_without(objects, why):
    least, trial = probability_trial(screened(2, [0.9] * 20, objects), 1, "tumour", None, 1.0)
    assert (least, trial.kept) == (None, False)
    assert trial.why.startswith(why)


def test_of_nearly_equal_gains_the_smallest_probability_is_taken():
    """Two hundred images without the object lie at 0.1, one at 0.6 beside ten with it: that one gains too little."""
    cases = screened(2, [0.9] * 10 + [0.1] * 200 + [0.6])
    least, trial = probability_trial(cases, 1, "tumour", None, 1.0)
    assert 0.1 < least < 0.6
    assert trial.after == pytest.approx(210 / 211)


def test_a_model_without_labels_has_no_least_probability():
    truth = blobs(2, (2, 8))
    assert probability_trial([case_of(truth, truth)] * 20, 1, "tumour", None, 1.0) == (None, None)
    assert case_of(truth, truth).without_unlikely(1, 0.9).mask(None).any()
