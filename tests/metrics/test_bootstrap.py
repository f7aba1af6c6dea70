from __future__ import annotations

import numpy as np
import pytest

from cphloc.errors import InputError
from cphloc.metrics.bootstrap import bootstrap, interval, paired_difference, weighted_bootstrap


def normal(cases: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.8, 0.1, cases)


def test_interval_of_the_mean_agrees_with_scipy_and_the_normal_approximation() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = normal(200)
    found = interval(values, n=4000)
    other = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, random_state=1)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(other.confidence_interval.low, abs=1e-3)
    assert found.high == pytest.approx(other.confidence_interval.high, abs=1e-3)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.05)


def test_covers_the_true_mean_about_95_times_in_100() -> None:
    covered = sum(low <= 0.8 <= high for _, low, high, *_ in (interval(normal(60, s), n=500) for s in range(200)))
    assert 0.89 <= covered / 200 <= 0.99


def test_same_seed_same_interval_other_seed_other_interval() -> None:
    values = normal(30)
    assert interval(values, seed=3) == interval(values, seed=3)
    assert interval(values, seed=3) != interval(values, seed=4)


def test_whole_patients_are_drawn() -> None:
    # Ten identical scans of each patient add no information: the interval must not shrink.
    values = normal(40)
    scans, patients = np.repeat(values, 10), np.repeat(np.arange(10, 50), 10)
    assert interval(scans, patients)[:3] == pytest.approx(interval(values)[:3])
    by_patient, by_scan = interval(scans, patients), interval(scans)
    assert by_patient.high - by_patient.low > 2.5 * (by_scan.high - by_scan.low)


def test_patients_may_have_different_numbers_of_scans() -> None:
    values, patients = normal(50), [f"p{i % 7 if i < 30 else 7 + i % 3}" for i in range(50)]
    found = interval(values, patients, n=3000)
    slow = bootstrap(np.mean, values, patients, n=3000)
    assert found == pytest.approx(slow)


def test_order_of_patients_does_not_matter() -> None:
    values, patients = normal(50), np.arange(50) % 11
    shuffled = np.random.default_rng(1).permutation(50)
    assert interval(values[shuffled], patients[shuffled]) == pytest.approx(interval(values, patients))


def test_undefined_cases_are_left_out_and_counted() -> None:
    values = normal(20)
    holes = np.concatenate([values, [np.nan] * 5])
    found = interval(holes)
    assert (found.n, found.n_undefined) == (20, 5)
    assert found.value == pytest.approx(values.mean())
    assert np.isfinite([found.low, found.high]).all()
    nothing = interval([np.nan, np.nan])
    assert np.isnan(nothing[:3]).all()
    assert nothing[3:] == (0, 2)


def test_other_statistics() -> None:
    values = normal(101)
    assert interval(values, statistic=np.nanmedian).value == np.median(values)
    constant = interval([0.5] * 9)
    assert constant[:3] == (0.5, 0.5, 0.5)


def test_pooled_statistic_equals_the_interval_of_the_mean() -> None:
    values, patients = normal(40), np.arange(40) // 2
    expected = interval(values, patients)
    assert bootstrap(np.mean, values, patients) == pytest.approx(expected)
    assert weighted_bootstrap(lambda w: np.average(values, weights=w), patients) == pytest.approx(expected)


def test_paired_difference_sees_what_unpaired_intervals_hide() -> None:
    first = np.random.default_rng(0).uniform(0.2, 0.9, 40)
    second = first - 0.02 + np.random.default_rng(1).normal(0, 0.01, 40)
    found = paired_difference(first, second)
    assert found.low > 0
    assert found.value == pytest.approx((first - second).mean())
    assert found.p_value < 0.001
    assert interval(first).low < interval(second).high


def test_paired_difference_of_noise_is_not_significant_and_is_antisymmetric() -> None:
    first, second = normal(40, 1), normal(40, 2)
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert there.p_value > 0.05
    assert there.value == pytest.approx(-back.value)
    assert there.low == pytest.approx(-back.high)
    assert there.p_value == back.p_value


def test_sign_flip_test_has_its_exact_value_on_few_patients() -> None:
    # Three positive differences: 2 of the 8 sign patterns are as extreme, whatever the number of scans a patient.
    assert paired_difference([2, 3, 4], [1, 1, 1], n=20000).p_value == pytest.approx(0.25, abs=0.01)
    repeated = paired_difference([2, 2, 3, 4], [1, 1, 1, 1], groups=["a", "a", "b", "c"], n=20000)
    assert repeated.p_value == pytest.approx(0.25, abs=0.01)
    assert paired_difference([1, 2], [1, 2]).p_value == 1.0


def test_pairs_with_an_undefined_side_are_counted() -> None:
    found = paired_difference([0.9, np.nan, 0.7], [0.8, 0.7, np.nan])
    assert (found.n, found.n_undefined) == (1, 2)


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="3 values and 2 groups"):
        interval([1.0, 2.0, 3.0], groups=["a", "b"])
    with pytest.raises(InputError, match="2 and 1 values"):
        paired_difference([1.0, 2.0], [1.0])
