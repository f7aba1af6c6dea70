from __future__ import annotations

import pytest

from cphloc.errors import InputError
from cphloc.metrics.proportion import wilson


def test_wilson_intervals() -> None:
    assert wilson(5, 6) == pytest.approx((0.436, 0.970), abs=5e-4)
    proportion = pytest.importorskip("scipy.stats").binomtest(95, 994).proportion_ci(method="wilson")
    assert wilson(95, 994) == pytest.approx((proportion.low, proportion.high))
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)
    assert wilson(0, 0) == (0, 1)


def test_more_successes_than_trials_are_an_error() -> None:
    with pytest.raises(InputError, match="7 of 6"):
        wilson(7, 6)
