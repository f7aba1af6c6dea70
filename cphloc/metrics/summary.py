"""Summarize the scores of cases: values with 95 % confidence intervals, and the keys under which MLflow logs them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cphloc.errors import InputError
from cphloc.metrics.bootstrap import FEWEST_PATIENTS, Interval, interval, weighted_bootstrap
from cphloc.metrics.evaluation import Statistic


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case.

    Args:
        id: id of the case.
        patient: id of the patient; the bootstrap resamples patients.
        scores: score by metric; NaN if undefined.
        facts: further columns of the CSV file that are not scores, such as label probabilities.
    """

    id: str
    patient: str
    scores: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Restricted:
    """A statistic of some of the cases, as a function of the weights of all.

    Values are kept: an interval and a paired difference are computed from the same resamples.

    Args:
        statistic: function of the weights of ``cases``.
        cases: numbers of the cases that it counts.
    """

    statistic: Statistic
    cases: Sequence[int]
    _known: dict[bytes, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, weights: np.ndarray) -> float:
        """Return the statistic."""
        counted = np.asarray(weights[list(self.cases)], float)
        key = hashlib.blake2b(counted.tobytes(), digest_size=16).digest()  # shorter than the weights of many cases
        if key not in self._known:
            self._known[key] = self.statistic(counted)
        return self._known[key]


def summarize(
    cases: Sequence[CaseScores], pooled: Mapping[str, Statistic] | None = None, n: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Compute the mean of every score and every pooled statistic, with 95 % bootstrap intervals by patient.

    Args:
        cases: all cases; a score that a case lacks counts as undefined.
        pooled: functions of the weights of ``cases``, in the same order, from `cphloc.metrics.evaluation`.
        n: number of resamples.
        seed: seed of the resampling.

    Raises:
        InputError: there are no cases, or a name is both a score and a pooled statistic.

    >>> cases = [CaseScores("a", "p1", {"dice": 0.8}), CaseScores("b", "p2", {"dice": float("nan")})]
    >>> summarize(cases)["dice"]
    Interval(value=0.8, low=nan, high=nan, n=1, n_undefined=1)
    """
    if not cases:
        msg = "there is no case to summarize; the split is empty"
        raise InputError(msg)
    pooled = pooled or {}
    names = list(dict.fromkeys(name for case in cases for name in case.scores))
    if twice := sorted(set(names) & set(pooled)):
        msg = f"{', '.join(twice)} given both per case and pooled; rename one"
        raise InputError(msg)
    patients = [case.patient for case in cases]
    summary = {
        name: interval([case.scores.get(name, math.nan) for case in cases], patients, n=n, seed=seed) for name in names
    }
    return summary | {name: _pooled(statistic, patients, n, seed) for name, statistic in pooled.items()}


def _pooled(statistic: Statistic, patients: Sequence[str], n: int, seed: int) -> Interval:
    """Interval of a pooled statistic, none where the cases that it counts are all of one patient."""
    found = weighted_bootstrap(statistic, patients, n, seed)
    counted = {patients[i] for i in statistic.cases} if isinstance(statistic, Restricted) else set(patients)
    return found if len(counted) >= FEWEST_PATIENTS else found._replace(low=math.nan, high=math.nan)


def tracking_metrics(summary: Mapping[str, Interval], prefix: str = "test") -> dict[str, float]:
    """Flatten a summary to ``{prefix/metric: value}`` with ``_ci_low`` and ``_ci_high``, for logging to MLflow.

    Undefined values are left out. If a metric is undefined in some cases, ``_undefined`` counts them.

    >>> tracking_metrics({"dice": Interval(0.9, 0.8, 0.95, 10, 0)})
    {'test/dice': 0.9, 'test/dice_ci_low': 0.8, 'test/dice_ci_high': 0.95}
    """
    flat = {}
    for name, metric in summary.items():
        key = f"{prefix}/{name}"
        values = {key: metric.value, f"{key}_ci_low": metric.low, f"{key}_ci_high": metric.high}
        flat |= {k: v for k, v in values.items() if math.isfinite(v)}
        if metric.n_undefined:
            flat[f"{key}_undefined"] = float(metric.n_undefined)
    return flat
