"""95 % intervals by resampling patients, and paired comparisons.

Scans of one patient are not independent, so whole patients are drawn with replacement (the percentile bootstrap of
Efron, 1979). Everything is deterministic: the same cases and seed give the same interval.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from cphloc.errors import InputError

PERCENTILES = (2.5, 97.5)
VALUES_AT_ONCE = 4_000_000


class Interval(NamedTuple):
    """A statistic with its 95 % interval; NaN where it is undefined.

    ``n`` cases have a value; ``n_undefined`` have none and are left out.
    """

    value: float
    low: float
    high: float
    n: int
    n_undefined: int = 0


class Difference(NamedTuple):
    """A paired difference with its 95 % interval and two-sided p-value; counts as in `Interval`."""

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
    """Interval of a statistic of one value per case.

    Args:
        values: ``(cases,)``; NaN where the metric is undefined.
        groups: patient of each case; ``None`` means one case per patient.
        statistic: NaN-skipping function with an ``axis``, such as ``np.nanmean`` or ``np.nanmedian``.
        n: resamples.
        seed: of the resampling.

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
    resampled = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample of undefined cases alone is NaN, as it should be
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
    """Statistic of ``first - second`` on the same cases, its interval, and a sign-flip permutation test by patient.

    A case counts only where both values are defined.

    Raises:
        InputError: the two differ in length.

    >>> round(paired_difference([0.9, 0.8, 0.7], [0.8, 0.7, 0.6]).value, 9)
    0.1
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape:
        msg = f"a paired comparison needs the same cases in both; got {len(first)} and {len(second)} values"
        raise InputError(msg)
    # Rounded so that differences which are equal on paper are equal, and the sign flips count their ties.
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
    """Interval of any statistic of a list of cases, such as a pooled voxel count; resampled cases repeat in the list.

    Where the statistic can weight its cases, `weighted_bootstrap` does the same in a fraction of the time.

    >>> bootstrap(lambda cases: sum(cases) / len(cases), [1.0, 1.0, 1.0])
    Interval(value=1.0, low=1.0, high=1.0, n=3, n_undefined=0)
    """
    cases = list(cases)
    positions = np.arange(len(cases))

    def of_weights(weights: np.ndarray) -> float:
        """Return the statistic of the cases, each repeated as often as its weight says."""
        return statistic([cases[i] for i in np.repeat(positions, weights)])

    return weighted_bootstrap(of_weights, range(len(cases)) if groups is None else groups, n, seed)


def weighted_bootstrap(
    statistic: Callable[[np.ndarray], float], groups: Sequence[Hashable], n: int = 2000, seed: int = 0
) -> Interval:
    """Interval of a pooled statistic (AP, FROC, AUC) that takes how many times each case was drawn.

    Args:
        statistic: of ``(cases,)`` integer weights; all ones give the value itself.
        groups: patient of each case.
        n: resamples.
        seed: of the resampling.

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
    """A pooled curve with its 95 % interval at every point; `weighted_bootstrap` of ``(points,)`` at once.

    Args:
        statistic: of ``(cases,)`` integer weights, ``(points,)``.
        groups: patient of each case, at least one.
        n: resamples.
        seed: of the resampling.

    Returns:
        values, lower and upper ends, each ``(points,)``; NaN where undefined in every resample.

    >>> ages = np.array([50.0, 60.0, 70.0])
    >>> [end.tolist() for end in weighted_band(lambda w: np.array([w @ ages / w.sum()]), "aaa")]
    [[60.0], [60.0], [60.0]]
    """
    patient = _patients(groups)
    value = np.asarray(statistic(np.ones(len(patient), int)), float)
    patients = int(patient.max()) + 1
    counts = np.array([np.bincount(draw, minlength=patients) for draws in _draws(patients, n, seed) for draw in draws])
    distinct, which = np.unique(counts, axis=0, return_inverse=True)  # few patients repeat: 3 of them are 10 resamples
    resampled = np.array([statistic(count[patient]) for count in distinct], float)[which.reshape(-1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a point that no resample defines is NaN, as it should be
        low, high = np.nanpercentile(resampled, PERCENTILES, axis=0)
    return value, low, high


def _patients(groups: Sequence[Hashable]) -> np.ndarray:
    """Number ``0..`` of each case's patient, in the order of the patients' names."""
    return np.unique([str(g) for g in groups], return_inverse=True)[1]


def _by_patient(values: np.ndarray, groups: Sequence[Hashable] | None) -> np.ndarray:
    """Values as ``(patients, most cases of one)``, filled up with NaN, which the statistic skips."""
    if groups is None:
        return values[:, None]
    if len(groups) != len(values):
        msg = f"every value needs its patient: got {len(values)} values and {len(groups)} groups"
        raise InputError(msg)
    patient = _patients(groups)
    order = np.argsort(patient, kind="stable")
    counts = np.bincount(patient)
    place = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((len(counts), counts.max()), np.nan)
    table[patient[order], place] = values[order]
    return table


def _draws(patients: int, n: int, seed: int, cases_each: int = 1) -> Iterator[np.ndarray]:
    """Patients drawn with replacement: ``(rows, patients)`` blocks, ``n`` rows in all."""
    random = np.random.default_rng(seed)
    rows = max(1, VALUES_AT_ONCE // max(1, patients * cases_each))
    for start in range(0, n, rows):
        yield random.integers(0, patients, size=(min(rows, n - start), patients))


def _sign_flip_p(by_patient: np.ndarray, observed: float, statistic: Callable[..., Any], n: int, seed: int) -> float:
    """Share of random sign flips, whole patients at a time, that reach the observed difference."""
    if math.isnan(observed):
        return math.nan
    random = np.random.default_rng(seed)
    reached = 0
    rows = max(1, VALUES_AT_ONCE // by_patient.size)
    for start in range(0, n, rows):
        signs = random.choice((-1.0, 1.0), size=(min(rows, n - start), len(by_patient), 1))
        flipped = statistic((signs * by_patient).reshape(len(signs), -1), axis=1)
        reached += int(np.count_nonzero(np.abs(flipped) >= abs(observed) - 1e-12))
    return (reached + 1) / (n + 1)
