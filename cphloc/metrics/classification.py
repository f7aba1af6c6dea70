"""Image-level scores: ROC and AUC, sensitivity at a fixed specificity, calibration.

Scores and labels are ``(cases,)``; a case whose label is NaN (unknown) is left out. ``weights`` says how often each
case counts, as `cphloc.metrics.bootstrap.weighted_bootstrap` gives them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from cphloc.errors import InputError
from cphloc.metrics.bootstrap import Interval


class Roc(NamedTuple):
    """Receiver operating characteristic: one point per distinct score, from (0, 0) to (1, 1).

    A case is called positive where its score is at least the threshold; the first threshold is infinite.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


class Reliability(NamedTuple):
    """Calibration by equal-width bins of predicted probability; NaN in empty bins.

    ``edges`` has one entry more than the others; ``confidence`` is the mean prediction, ``frequency`` the share of
    positives.
    """

    edges: np.ndarray
    confidence: np.ndarray
    frequency: np.ndarray
    count: np.ndarray


def roc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Roc:
    """ROC curve; a rate is NaN where no case of its class exists.

    >>> roc([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0]).true_positive_rate.tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    scores, positive, weights = _known(scores, labels, weights)
    order = np.argsort(-scores, kind="stable")
    scores, positive, weights = scores[order], positive[order], weights[order]
    last_of_tie = np.append(np.diff(scores) != 0, True)[: len(scores)]

    def rate(kind: np.ndarray) -> np.ndarray:
        called = np.cumsum(weights * kind)
        total = called[-1] if len(called) else 0.0
        return np.append(0.0, called[last_of_tie]) / total if total else np.full(last_of_tie.sum() + 1, np.nan)

    return Roc(rate(~positive), rate(positive), np.append(np.inf, scores[last_of_tie]))


def auc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: how often a positive case scores above a negative one, ties counting one half.

    NaN where only one class is present.

    >>> auc([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0])
    0.875
    """
    curve = roc(scores, labels, weights)
    if np.isnan(curve).any():
        return float("nan")
    steps = np.diff(curve.false_positive_rate)
    return float(steps @ (curve.true_positive_rate[1:] + curve.true_positive_rate[:-1]) / 2)


def auc_delong(scores: np.ndarray, labels: np.ndarray) -> Interval:
    """AUC with DeLong's 95 % interval, for independent cases; resample patients where they have several.

    Source: DeLong et al., 1988, by mid-ranks (Sun and Xu, 2014); normal approximation, clipped to [0, 1].

    >>> auc_delong([0.9, 0.8, 0.6, 0.7, 0.3, 0.1], [1, 1, 1, 0, 0, 0]).value
    0.8888888888888888
    """
    known = ~np.isnan(np.asarray(labels, float))
    scores, positive, _ = _known(scores, labels, None)
    m, n = int(np.count_nonzero(positive)), int(np.count_nonzero(~positive))
    undefined = int(np.count_nonzero(~known))
    if min(m, n) < 2:
        return Interval(auc(scores, positive), math.nan, math.nan, m + n, undefined)
    among_all = stats.rankdata(scores)
    # Per case: the share of the other class that it ranks above, or that ranks above it.
    of_positives = (among_all[positive] - stats.rankdata(scores[positive])) / n
    of_negatives = 1 - (among_all[~positive] - stats.rankdata(scores[~positive])) / m
    value = float(of_positives.mean())
    error = math.sqrt(of_positives.var(ddof=1) / m + of_negatives.var(ddof=1) / n)
    half = float(stats.norm.ppf(0.975)) * error
    return Interval(value, max(0.0, value - half), min(1.0, value + half), m + n, undefined)


def sensitivity_at_specificity(
    scores: np.ndarray, labels: np.ndarray, specificity: float, weights: np.ndarray | None = None
) -> float:
    """Highest sensitivity of any threshold whose specificity is at least the given one.

    >>> sensitivity_at_specificity([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0], specificity=1.0)
    0.5
    """
    if not 0 <= specificity <= 1:
        msg = f"specificity must lie in [0, 1], got {specificity}"
        raise InputError(msg)
    curve = roc(scores, labels, weights)
    if np.isnan(curve).any():
        return float("nan")
    return float(curve.true_positive_rate[curve.false_positive_rate <= 1 - specificity + 1e-12].max())


def brier(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Brier score, the mean squared error of the predicted probability; NaN without cases.

    >>> round(brier([0.9, 0.2], [1, 0]), 9)
    0.025
    """
    probabilities, positive, weights = _known(probabilities, labels, weights)
    return float(np.average((probabilities - positive) ** 2, weights=weights)) if weights.sum() else float("nan")


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10, weights: np.ndarray | None = None
) -> Reliability:
    """Mean prediction and share of positives in bins of predicted probability, the points of a reliability diagram.

    Raises:
        InputError: a probability outside [0, 1].

    >>> reliability([0.1, 0.3, 0.9], [0, 1, 1], bins=2).frequency.tolist()
    [0.5, 1.0]
    """
    probabilities, positive, weights = _known(probabilities, labels, weights)
    if len(probabilities) and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        msg = f"probabilities must lie in [0, 1], got {probabilities.min()} to {probabilities.max()}"
        raise InputError(msg)
    edges = np.linspace(0, 1, bins + 1)
    of_bin = np.clip(np.digitize(probabilities, edges[1:-1]), 0, bins - 1)
    count, predicted, there = (
        np.bincount(of_bin, weights * values, minlength=bins) for values in (1.0, probabilities, positive)
    )
    with np.errstate(invalid="ignore"):
        return Reliability(edges, predicted / count, there / count, count)


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10, weights: np.ndarray | None = None
) -> float:
    """Distance between mean prediction and share of positives, averaged over the cases in equal-width bins.

    Source: Naeini et al., 2015.

    >>> round(expected_calibration_error([0.1, 0.3, 0.9], [0, 1, 1], bins=2), 9)
    0.233333333
    """
    _, confidence, frequency, count = reliability(probabilities, labels, bins, weights)
    held = count > 0
    return float(np.average(np.abs(confidence - frequency)[held], weights=count[held])) if held.any() else float("nan")


def _known(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, positives as bool, and weights of the cases whose label is known."""
    scores, labels = np.asarray(scores, float), np.asarray(labels, float)
    if scores.shape != labels.shape:
        msg = f"every score needs its label, got {scores.shape} scores and {labels.shape} labels"
        raise InputError(msg)
    known = ~np.isnan(labels)
    if not np.isin(labels[known], (0, 1)).all():
        msg = f"labels must be 0, 1 or NaN, got {sorted(set(labels[known].tolist()))[:5]}"
        raise InputError(msg)
    if np.isnan(scores[known]).any():
        msg = f"{int(np.isnan(scores[known]).sum())} scores are NaN; a model that gives NaN has no ROC curve"
        raise InputError(msg)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, float)
    return scores[known], labels[known].astype(bool), weights[known]
