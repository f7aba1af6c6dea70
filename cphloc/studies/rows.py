"""Rows of the results of a study: an arm or a variant of it, its values per seed and those of its baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from cphloc.metrics.bootstrap import Difference, Interval, interval
from cphloc.registry.metrics import has_direction, quality

FEWEST_FOR_INTERVAL = 2
"""Smallest number of seeds for an interval."""


@dataclass(frozen=True)
class Row:
    """One row of the results table: an arm, or a variant of it, at one value of the grid.

    Args:
        name: ``arm`` or ``arm/variant``.
        at: value of the grid; ``None`` in a study without a grid.
        values: for each metric one value per seed, in the order of the seeds; NaN where undefined.
        censored: for each metric, per seed, whether the value is only a lower bound; metrics without any are left out.
        baseline: values of predictions that ignore the image, of the metrics that have them.
    """

    name: str
    at: Any
    values: Mapping[str, list[float]]
    censored: Mapping[str, list[bool]] = field(default_factory=dict)
    baseline: Mapping[str, list[float]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name of the row, followed by the value of the grid if there is one."""
        return self.name if self.at is None else f"{self.name} @ {self.at}"

    def interval(self, metric: str) -> Interval:
        """Return the mean of a metric over the seeds with its 95 % interval, see `seed_interval`.

        Of censored values, the mean is a lower bound and the interval has no upper end. Its lower end is that of the
        bootstrap, which larger values can only raise.
        """
        if metric in self.censored:
            return interval(self.values[metric])._replace(high=math.inf)
        return seed_interval(self.values[metric])

    def n_censored(self, metric: str) -> dict[str, int]:
        """Return ``n_censored``, the number of seeds with a censored value, if there are any."""
        return {"n_censored": sum(self.censored[metric])} if metric in self.censored else {}

    def ends(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and the largest value that each seed can have; the largest is infinite if censored."""
        low = np.array(self.values[metric], float)
        return low, np.where(self.censored.get(metric, [False] * len(low)), math.inf, low)

    @property
    def above_baseline(self) -> bool | None:
        """Whether the whole interval of some metric is better than the baseline; ``None`` where there is none."""
        gains = [
            seed_difference([quality(m, v) for v in self.values[m]], [quality(m, v) for v in prior])
            for m, prior in self.baseline.items()
            if has_direction(m) and not all(map(math.isnan, prior))
        ]
        return any(gain.low > 0 for gain in gains) if gains else None


def seed_interval(values: Sequence[float]) -> Interval:
    """Compute the mean over the seeds with its 95 % interval by Student's t, which holds for few seeds.

    Args:
        values: one per seed; NaN where undefined, which is left out.

    >>> seed_interval([0.7, 0.8, 0.9])
    Interval(value=0.8, low=0.5515862288, high=1.0484137712, n=3, n_undefined=0)
    """
    known = np.array([value for value in values if not math.isnan(value)])
    n = len(known)
    if n < FEWEST_FOR_INTERVAL:
        return Interval(float(known.mean()) if n else math.nan, math.nan, math.nan, n, len(values) - n)
    half = float(student_t.ppf(0.975, n - 1)) * float(known.std(ddof=1)) / math.sqrt(n)
    mean = float(known.mean())
    low, high = round(mean - half, 10), round(mean + half, 10)
    return Interval(round(mean, 10), low, high, n, len(values) - n)


def seed_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compute the mean of ``first - second`` over the seeds, with interval and p-value of the paired t-test.

    Both rows of a seed are measured on the same cases, so its difference is the mean of differences paired by case.

    Args:
        first: one value per seed; NaN where undefined.
        second: the same of the other row.
    """
    apart = np.round(np.array(first, float) - np.array(second, float), 12)
    found = seed_interval(apart.tolist())
    half = found.high - found.value
    if math.isnan(half):
        return Difference(*found, p_value=math.nan)
    if half == 0:  # all seeds differ by the same
        return Difference(*found, p_value=float(found.value == 0))
    t = found.value / half * student_t.ppf(0.975, found.n - 1)
    return Difference(*found, p_value=2 * float(student_t.sf(abs(t), found.n - 1)))


def row_difference(first: Row, second: Row, metric: str) -> Difference:
    """Compute the difference of a metric of two rows, paired by seed.

    Where values are censored, the difference is unknown (NaN), and its interval is as wide as their bounds allow: its
    lower end is that of the smallest possible differences and its upper end that of the largest.
    """
    if not (metric in first.censored or metric in second.censored):
        return seed_difference(first.values[metric], second.values[metric])
    (low, high), (least, most) = first.ends(metric), second.ends(metric)
    low, high = low - most, high - least
    at_least = interval(low) if np.isfinite(low[~np.isnan(low)]).all() else None
    at_most = interval(high) if np.isfinite(high[~np.isnan(high)]).all() else None
    n = int((~np.isnan(low)).sum())
    ends = at_least.low if at_least else -math.inf, at_most.high if at_most else math.inf
    return Difference(math.nan, *ends, n, len(low) - n, math.nan)
