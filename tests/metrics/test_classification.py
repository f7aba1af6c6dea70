from __future__ import annotations

import numpy as np
import pytest

from cphloc.errors import InputError
from cphloc.metrics.classification import (
    auc,
    auc_delong,
    brier,
    decisions,
    expected_calibration_error,
    f1,
    reliability,
    roc,
    sensitivity_at_specificity,
)
from cphloc.metrics.evaluation import classification_statistics


def scored(cases: int = 200, seed: int = 0, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities that rank them imperfectly, with many ties."""
    random = np.random.default_rng(seed)
    labels = random.random(cases) < 0.3
    return np.round(np.clip(random.normal(0.35 + 0.25 * labels, 0.2), 0, 1), decimals), labels.astype(float)


def test_auc_and_roc_equal_scikit_learn_with_ties_and_weights() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, labels = scored()
    weights = np.random.default_rng(1).integers(0, 4, len(scores))
    assert auc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert auc(scores, labels, weights) == pytest.approx(metrics.roc_auc_score(labels, scores, sample_weight=weights))
    false, true, thresholds = metrics.roc_curve(labels, scores, drop_intermediate=False)
    ours = roc(scores, labels)
    assert ours.false_positive_rate == pytest.approx(false)
    assert ours.true_positive_rate == pytest.approx(true)
    assert ours.thresholds == pytest.approx(thresholds)


@pytest.mark.parametrize("exclusive", [True, False])
def test_f1_equals_scikit_learn_for_classes_that_exclude_each_other_and_for_others(exclusive) -> None:
    """Where each image has one class, the most probable one counts, however low; else each from 0.5."""
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    probabilities, weights = random.dirichlet(np.ones(3), 90), random.integers(0, 4, 90)
    labels = np.eye(3)[random.integers(0, 3, 90)]
    if not exclusive:
        labels[0] = 0
    decided = decisions(probabilities, labels)
    expected = np.eye(3)[probabilities.argmax(1)] if exclusive else probabilities >= 0.5
    for k in range(3):
        truth = metrics.f1_score(labels[:, k], expected[:, k], sample_weight=weights)
        assert f1(decided[:, k], labels[:, k], weights) == pytest.approx(truth)
    macro = metrics.f1_score(labels, expected, average="macro", sample_weight=weights)
    assert classification_statistics(probabilities, labels, ["a", "b", "c"])["f1"](weights) == pytest.approx(macro)


def test_f1_leaves_out_unknown_labels_and_is_undefined_without_the_class() -> None:
    assert f1(np.array([1, 1, 0]), np.array([1, np.nan, 1])) == pytest.approx(2 / 3)
    assert np.isnan(f1(np.zeros(2), np.zeros(2)))


def test_auc_is_how_often_a_positive_outranks_a_negative() -> None:
    scores, labels = scored(60)
    first, second = scores[labels == 1][:, None], scores[labels == 0]
    assert auc(scores, labels) == pytest.approx(((first > second) + 0.5 * (first == second)).mean())
    assert auc(-scores, labels) == pytest.approx(1 - auc(scores, labels))
    assert auc(np.exp(3 * scores), labels) == pytest.approx(auc(scores, labels))
    assert auc(np.zeros(60), labels) == 0.5


def test_delong_variance_is_that_of_its_definition() -> None:
    scores, labels = scored(80)
    first, second = scores[labels == 1][:, None], scores[labels == 0]
    kernel = (first > second) + 0.5 * (first == second)
    variance = kernel.mean(axis=1).var(ddof=1) / len(first) + kernel.mean(axis=0).var(ddof=1) / len(second)
    found = auc_delong(scores, labels)
    assert found.value == pytest.approx(auc(scores, labels))
    assert found.high - found.low == pytest.approx(2 * 1.959964 * variance**0.5)
    assert (found.n, found.n_undefined) == (80, 0)


def test_delong_covers_the_true_auc() -> None:
    # Normal scores one standard deviation apart: AUC = Phi(1 / sqrt 2) = 0.7602.
    covered = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        labels = np.arange(100) < 40
        found = auc_delong(random.normal(labels, 1.0), labels)
        covered += found.low <= 0.76025 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_one_class_alone_is_undefined() -> None:
    assert np.isnan(auc([0.1, 0.2], [1, 1]))
    assert np.isnan(auc([], []))
    assert np.isnan(auc_delong([0.1, 0.2], [0, 0]).value)
    assert np.isnan(sensitivity_at_specificity([0.1, 0.2], [1, 1], 0.9))


def test_unknown_labels_are_left_out() -> None:
    scores, labels = scored(50)
    more = np.append(scores, [0.9, 0.1]), np.append(labels, [np.nan, np.nan])
    assert auc(*more) == auc(scores, labels)
    assert brier(*more) == pytest.approx(brier(scores, labels))
    assert auc_delong(*more)[3:] == (50, 2)


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.8, 0.9, 0.95, 1.0])
def test_sensitivity_at_specificity_is_the_best_of_all_thresholds(specificity: float) -> None:
    scores, labels = scored()
    best = 0.0
    for threshold in [*np.unique(scores), np.inf]:
        called = scores >= threshold
        if (~called[labels == 0]).mean() >= specificity:
            best = max(best, called[labels == 1].mean())
    assert sensitivity_at_specificity(scores, labels, specificity) == pytest.approx(best)


def test_sensitivity_falls_as_specificity_rises() -> None:
    scores, labels = scored(decimals=6)
    values = [sensitivity_at_specificity(scores, labels, s) for s in np.linspace(0, 1, 21)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1


def test_brier_and_reliability_equal_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
    scores, labels = scored(decimals=6)
    assert brier(scores, labels) == pytest.approx(metrics.brier_score_loss(labels, scores))
    frequency, confidence = calibration_curve(labels, scores, n_bins=10)
    ours = reliability(scores, labels, bins=10)
    held = ours.count > 0
    assert ours.frequency[held] == pytest.approx(frequency)
    assert ours.confidence[held] == pytest.approx(confidence)
    assert ours.count.sum() == len(scores)


def test_calibration_error_of_constant_predictions_is_their_distance_from_the_frequency() -> None:
    labels = np.arange(100) < 30
    assert expected_calibration_error(np.full(100, 0.3), labels) == pytest.approx(0)
    assert expected_calibration_error(np.full(100, 0.8), labels) == pytest.approx(0.5)
    assert expected_calibration_error(labels.astype(float), labels) == 0
    assert np.isnan(expected_calibration_error([], []))


def test_weights_equal_repeated_cases() -> None:
    scores, labels = scored(40, decimals=6)
    weights = np.arange(40) % 3
    repeated = np.repeat(scores, weights), np.repeat(labels, weights)
    for metric in (auc, brier, expected_calibration_error):
        assert metric(scores, labels, weights=weights) == pytest.approx(metric(*repeated))


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="0, 1 or NaN"):
        auc([0.1, 0.2], [1, 2])
    with pytest.raises(InputError, match="1 scores are NaN"):
        auc([0.1, np.nan], [1, 0])
    with pytest.raises(InputError, match=r"\[0, 1\], got 1.5"):
        sensitivity_at_specificity([0.1], [1], 1.5)
    with pytest.raises(InputError, match="probabilities"):
        reliability([1.5], [1])
    with pytest.raises(InputError, match="label"):
        auc([0.1, 0.2], [1])
