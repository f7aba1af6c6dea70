"""Curves agree with scikit-learn, with the numbers they are summed up by, and with the bootstrap of those numbers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from cphloc.metrics import classification, detection
from cphloc.metrics.bootstrap import weighted_bootstrap
from cphloc.metrics.curves import (
    FP_PER_SCAN,
    RESAMPLES,
    froc_curve,
    precision_recall_curves,
    reliability_curves,
    roc_curves,
)
from cphloc.metrics.detection import DetectionCase
from cphloc.metrics.froc import LUNA16_FP_PER_SCAN, froc_of_boxes


def random_cases(dims, images=20, seed=0):
    """Two references in each image; jittered copies of most, and noise."""
    rng = np.random.default_rng(seed)
    cases = []
    for _ in range(images):
        low = rng.uniform(0, 100, (2, dims))
        references = np.concatenate([low, low + 30], axis=1)
        found = np.concatenate([references[: rng.integers(0, 3)] + rng.normal(0, 3, 2 * dims), references[:1] + 60])
        cases.append(DetectionCase(found, rng.random(len(found)), [1, 2, 1][: len(found)], references, [1, 2]))
    return cases


def labelled(seed=0, cases=60):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size=(cases, 2)).astype(float)
    probabilities = 0.3 * labels + rng.uniform(0, 0.7, size=labels.shape)
    probabilities[::7] = 0.45
    return probabilities, labels, ["a", "b"], [f"p{i // 2}" for i in range(cases)]


def test_roc_is_scikit_learns_upper_staircase_and_its_interval_that_of_the_auc() -> None:
    probabilities, labels, classes, patients = labelled()
    for k, curve in enumerate(roc_curves(probabilities, labels, classes, patients)):
        fpr, tpr, _ = roc_curve(labels[:, k], probabilities[:, k], drop_intermediate=False)
        best = [tpr[fpr <= x + 1e-12].max() for x in curve.x]
        np.testing.assert_allclose(curve.y, best)
        one = lambda w, k=k: classification.auc(probabilities[:, k], labels[:, k], w)  # noqa: E731
        expected = weighted_bootstrap(one, patients, RESAMPLES)
        assert curve.summary == expected
        assert (curve.low <= curve.y).all()
        assert (curve.y <= curve.high).all()


def test_reliability_is_scikit_learns() -> None:
    probabilities, labels, classes, patients = labelled()
    for k, curve in enumerate(reliability_curves(probabilities, labels, classes, patients)):
        frequency, confidence = calibration_curve(labels[:, k], probabilities[:, k], n_bins=10)
        held = ~np.isnan(curve.y)
        np.testing.assert_allclose(curve.y[held], frequency)
        np.testing.assert_allclose(curve.x[held], confidence)


@pytest.mark.parametrize("dims", [2, 3])
def test_precision_recall_and_froc_are_summed_up_by_ap_and_cpm(dims) -> None:
    cases = random_cases(dims)
    patients = list(range(len(cases)))
    for label, curve in enumerate(precision_recall_curves(cases, {1: "a", 2: "b"}, patients), start=1):
        expected = detection.average_precision(detection.match(cases, label, [0.5]))[0]
        assert curve.summary.value == pytest.approx(expected)
        assert curve.y.mean() == pytest.approx(expected)
        assert (np.diff(curve.y) <= 0).all()
    free = froc_curve(cases, patients)
    assert free.summary.value == pytest.approx(froc_of_boxes(cases).score())
    np.testing.assert_allclose(free.x[::8], LUNA16_FP_PER_SCAN)
    assert len(free.x) == len(free.low) == len(free.high) == len(FP_PER_SCAN)
    assert (free.low <= free.y).all()
    assert (free.y <= free.high).all()


def test_a_class_that_is_nowhere_has_no_precision_and_an_undefined_roc() -> None:
    cases = random_cases(2)
    assert len(precision_recall_curves(cases, {1: "a", 9: "none"}, list(range(len(cases))))) == 1
    curve = roc_curves(np.array([[0.5], [0.2]]), np.zeros((2, 1)), ["a"], "ab")[0]
    assert np.isnan(curve.summary.value)
    assert np.isnan(curve.y).all()
