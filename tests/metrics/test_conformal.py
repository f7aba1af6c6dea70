"""Split conformal intervals: against NumPy's order statistic, and their coverage in simulated cases."""

from __future__ import annotations

import numpy as np
import pytest

from cphloc.errors import InputError
from cphloc.metrics.conformal import conformal_quantile, size_error, size_interval


@pytest.mark.parametrize("n", [9, 10, 19, 20, 57])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_the_quantile_is_the_order_statistic_of_the_sample_with_one_infinite_error(n, level):
    """Lei et al.: the ceil((n + 1) level)-th smallest, which is the inverted CDF of the errors and infinity."""
    errors = np.random.default_rng(n).exponential(size=n)
    expected = np.quantile(np.append(errors, np.inf), level, method="inverted_cdf")
    assert conformal_quantile(errors, level) == expected
    assert conformal_quantile(np.append(errors, np.nan), level) == expected


def test_new_cases_are_covered_at_the_level_whatever_the_distribution():
    random = np.random.default_rng(0)
    draws = np.abs(random.standard_cauchy((4000, 21)))
    covered = [new <= conformal_quantile(known, 0.9) for *known, new in draws]
    assert 0.9 - 0.015 < np.mean(covered) < 0.9 + 1 / 21 + 0.015


def test_too_few_errors_give_no_finite_quantile_and_a_level_is_a_share():
    assert conformal_quantile(np.ones(8), 0.9) == np.inf
    with pytest.raises(InputError, match="between 0 and 1"):
        conformal_quantile(np.ones(8), 90)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_interval_holds_exactly_the_sizes_within_the_error(dims):
    low, high = size_interval(50.0, 0.7, dims)
    for reference, inside in ((low * 0.999, False), (low, True), (high, True), (high * 1.001, False)):
        assert (size_error(50.0, reference, dims) <= 0.7 + 1e-12) is inside
    assert size_interval(0.0, 2.0, dims) == (0.0, pytest.approx(2.0**dims))
