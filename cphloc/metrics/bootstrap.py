"""95 % bootstrap confidence intervals by patient, and paired comparisons.

Scans of one patient are not independent, so whole patients are drawn with replacement (percentile bootstrap; Efron,
1979). The results are deterministic: the same cases and seed give the same interval.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from cphloc.errors import InputError

PERCENTILES = (2.5, 97.5)
"""Percentiles of the resampled statistics at the ends of an interval."""

EXACT_PATIENTS = 12
"""Up to this number of patients, the sign-flip test tries every combination of signs."""
FEWEST_PATIENTS = 2
"""Smallest number of patients for an interval: resamples of one patient are all the same."""


VALUES_AT_ONCE = 4_000_000
"""Largest number of values to resample at once, which limits the memory."""


class Interval(NamedTuple):
    """A statistic with its 95 % confidence interval.

    Args:
        value: the statistic; NaN if undefined.
        low: lower end of the interval; NaN if undefined, or if all cases with a value are of one patient.
        high: upper end of the interval; NaN likewise.
        n: number of cases with a value.
        n_undefined: number of cases without a value, which are left out.
    """

    value: float
    low: float
    high: float
    n: int
    n_undefined: int = 0


class Difference(NamedTuple):
    """A paired difference with its 95 % confidence interval and two-sided p-value; other fields as in `Interval`."""

    value: float
    low: float
    high: float
    n: int
    n_undefined: int
    p_value: float


def interval(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[Hashable] | None = None,
    statistic: Callable[..., Any] = np.nanmean,
    n: int = 2000,
    seed: int = 0,
) -> Interval:
    """Compute a statistic of one value per case, with its confidence interval.

    Args:
        values: ``(cases,)``; NaN where the metric is undefined.
        groups: patient of each case; ``None`` means one case per patient.
        statistic: NaN-skipping function with an argument ``axis``, such as ``np.nanmean`` or ``np.nanmedian``.
        n: number of resamples.
        seed: seed of the resampling.

    Raises:
        InputError: there are not as many groups as values.

    >>> interval([0.8, 0.9, float("nan"), 0.7], groups=["a", "a", "b", "c"])[3:]
    (3, 1)
    """
    by_case = np.asarray(values, float)
    undefined = int(np.isnan(by_case).sum())
    if undefined == len(by_case):
        return Interval(math.nan, math.nan, math.nan, 0, undefined)
    by_patient = _by_patient(by_case, groups)
    if np.isfinite(by_patient).any(axis=1).sum() < FEWEST_PATIENTS:
        return Interval(float(statistic(by_case, axis=0)), math.nan, math.nan, len(by_case) - undefined, undefined)
    resampled = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample without any defined case is NaN, as intended
        for draws in _draws(len(by_patient), n, seed, by_patient.shape[1]):
            resampled.append(statistic(by_patient[draws].reshape(len(draws), -1), axis=1))
        low, high = np.nanpercentile(np.concatenate(resampled), PERCENTILES)
        value = statistic(by_case, axis=0)
    return Interval(float(value), float(low), float(high), len(by_case) - undefined, undefined)


def paired_difference(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    groups: Sequence[Hashable] | None = None,
    statistic: Callable[..., Any] = np.nanmean,
    n: int = 2000,
    seed: int = 0,
) -> Difference:
    """Compute a statistic of ``first - second`` on the same cases, with interval and p-value.

    The p-value is that of a sign-flip permutation test by patient. Cases with an undefined value are left out.

    Args:
        first: ``(cases,)`` values; NaN where undefined.
        second: ``(cases,)`` values of the same cases.
        groups: patient of each case; ``None`` means one case per patient.
        statistic: NaN-skipping function with an argument ``axis``.
        n: number of resamples, and of random sign flips.
        seed: seed of both.

    Raises:
        InputError: the two differ in length.

    >>> round(paired_difference([0.9, 0.8, 0.7], [0.8, 0.7, 0.6]).value, 9)
    0.1
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape:
        msg = f"a paired comparison needs the same cases in both; got {len(first)} and {len(second)} values"
        raise InputError(msg)
    # Rounded, so that differences that are mathematically equal are ties in the permutation test.
    difference = np.round(a - b, 12)
    result = interval(difference, groups, statistic, n, seed)
    return Difference(*result, p_value=_sign_flip_p(_by_patient(difference, groups), result.value, statistic, n, seed))


def bootstrap(
    statistic: Callable[[list[Any]], float],
    cases: Sequence[Any],
    groups: Sequence[Hashable] | None = None,
    n: int = 2000,
    seed: int = 0,
) -> Interval:
    """Compute a statistic of a list of cases, with its confidence interval.

    If the statistic can weight its cases, `weighted_bootstrap` is much faster.

    Args:
        statistic: function of a list of cases, in which cases that were drawn repeatedly are repeated.
        cases: the cases, of any type.
        groups: patient of each case; ``None`` means one case per patient.
        n: number of resamples.
        seed: seed of the resampling.

    >>> bootstrap(lambda cases: sum(cases) / len(cases), [1.0, 1.0, 1.0])
    Interval(value=1.0, low=1.0, high=1.0, n=3, n_undefined=0)
    """
    cases = list(cases)
    positions = np.arange(len(cases))

    def _of_weights(weights: np.ndarray) -> float:
        """Return the statistic of the cases, each repeated as many times as its weight."""
        return statistic([cases[i] for i in np.repeat(positions, weights)])

    return weighted_bootstrap(_of_weights, range(len(cases)) if groups is None else groups, n, seed)


def weighted_bootstrap(
    statistic: Callable[[np.ndarray], float], groups: Sequence[Hashable], n: int = 2000, seed: int = 0
) -> Interval:
    """Compute a pooled statistic (such as AP, FROC or AUC) of weighted cases, with its confidence interval.

    Args:
        statistic: function of the number of times that each case was drawn, ``(cases,)``; the value of the statistic
            is that of weights 1.
        groups: patient of each case.
        n: number of resamples.
        seed: seed of the resampling.

    >>> ages = np.array([50.0, 60.0, 70.0])
    >>> weighted_bootstrap(lambda w: np.average(ages, weights=w), groups="abc").value
    60.0
    """
    if not len(groups):
        return Interval(math.nan, math.nan, math.nan, 0)
    value, low, high = weighted_band(lambda weights: np.array([statistic(weights)]), groups, n, seed)
    return Interval(float(value[0]), float(low[0]), float(high[0]), len(groups))


def weighted_band(
    statistic: Callable[[np.ndarray], np.ndarray], groups: Sequence[Hashable], n: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute a pooled curve of weighted cases, with the confidence interval of each of its points.

    Args:
        statistic: function of the number of times that each case was drawn, ``(cases,)``, to the values ``(points,)``.
        groups: patient of each case, at least one.
        n: number of resamples.
        seed: seed of the resampling.

    Returns:
        values, lower ends and upper ends, each ``(points,)``; ends are NaN if undefined in every resample, or if all
        cases are of one patient.

    >>> ages = np.array([50.0, 60.0, 70.0])
    >>> [end.tolist() for end in weighted_band(lambda w: np.array([w @ ages / w.sum()]), "aaa")]
    [[60.0], [nan], [nan]]
    """
    patient = _patients(groups)
    value = np.asarray(statistic(np.ones(len(patient), int)), float)
    patients = int(patient.max()) + 1
    if patients < FEWEST_PATIENTS:
        return value, np.full_like(value, math.nan), np.full_like(value, math.nan)
    counts = np.array([np.bincount(draw, minlength=patients) for draws in _draws(patients, n, seed) for draw in draws])
    distinct, which = np.unique(counts, axis=0, return_inverse=True)  # with few patients, resamples repeat
    resampled = np.array([statistic(count[patient]) for count in distinct], float)[which.reshape(-1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a point that is undefined in all resamples is NaN
        low, high = np.nanpercentile(resampled, PERCENTILES, axis=0)
    return value, low, high


def _patients(groups: Sequence[Hashable]) -> np.ndarray:
    """Number from 0 of the patient of each case, in the order of the patients' names."""
    return np.unique([str(g) for g in groups], return_inverse=True)[1]


def _by_patient(values: np.ndarray, groups: Sequence[Hashable] | None) -> np.ndarray:
    """Arrange values as ``(patients, largest number of cases per patient)``, padded with NaN."""
    if groups is None:
        return values[:, None]
    if len(groups) != len(values):
        msg = f"groups must have one patient per value, got {len(values)} values and {len(groups)} groups"
        raise InputError(msg)
    patient = _patients(groups)
    order = np.argsort(patient, kind="stable")
    counts = np.bincount(patient)
    place = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((len(counts), counts.max()), np.nan)
    table[patient[order], place] = values[order]
    return table


def _draws(patients: int, n: int, seed: int, cases_each: int = 1) -> Iterator[np.ndarray]:
    """Draw patients with replacement ``n`` times; yields the resamples in blocks ``(resamples, patients)``."""
    random = np.random.default_rng(seed)
    rows = max(1, VALUES_AT_ONCE // max(1, patients * cases_each))
    for start in range(0, n, rows):
        yield random.integers(0, patients, size=(min(rows, n - start), patients))


def _sign_flip_p(by_patient: np.ndarray, observed: float, statistic: Callable[..., Any], n: int, seed: int) -> float:
    """p-value: fraction of sign flips by patient whose difference is at least the observed one.

    Up to `EXACT_PATIENTS` patients, all flips are tried, which gives the exact value; of more patients, the observed
    signs and ``n`` random ones are.
    """
    if math.isnan(observed):
        return math.nan
    patients = len(by_patient)
    exact = patients <= EXACT_PATIENTS
    random = np.random.default_rng(seed)
    reached, total = 0, 2**patients if exact else n
    rows = max(1, VALUES_AT_ONCE // by_patient.size)
    for start in range(0, total, rows):
        count = min(rows, total - start)
        if exact:
            bits = (np.arange(start, start + count)[:, None] >> np.arange(patients)) & 1
            signs = (1.0 - 2.0 * bits)[..., None]
        else:
            signs = random.choice((-1.0, 1.0), size=(count, patients, 1))
        flipped = statistic((signs * by_patient).reshape(count, -1), axis=1)
        reached += int(np.count_nonzero(np.abs(flipped) >= abs(observed) - 1e-12))
    return reached / total if exact else (reached + 1) / (total + 1)
