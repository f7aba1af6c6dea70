"""Image-level scores: ROC and AUC, sensitivity at a fixed specificity, F1, calibration.

Scores and labels are ``(cases,)`` arrays, labels 0 or 1; cases with an unknown label (NaN) are left out. ``weights``
``(cases,)`` is the number of times that each case counts, as drawn by `cphloc.metrics.bootstrap.weighted_bootstrap`;
``None`` counts each case once. All functions raise `InputError` if scores and labels differ in shape, a label is not 0,
1 or NaN, or the score of a case with a known label is NaN.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cphloc.errors import InputError
from cphloc.metrics.bootstrap import Interval


class Roc(NamedTuple):
    """Receiver operating characteristic (ROC) curve: one point per distinct score, from (0, 0) to (1, 1).

    A case is predicted positive if its score is at least the threshold; the first threshold is infinite.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


class Reliability(NamedTuple):
    """Points of a reliability diagram, in equal-width bins of predicted probability.

    Args:
        edges: ``(bins + 1,)`` edges of the bins.
        confidence: ``(bins,)`` mean predicted probability; NaN in empty bins.
        frequency: ``(bins,)`` fraction of positives; NaN in empty bins.
        count: ``(bins,)`` number of cases, weighted.
    """

    edges: np.ndarray
    confidence: np.ndarray
    frequency: np.ndarray
    count: np.ndarray


def roc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Roc:
    """Compute the ROC curve; a rate is NaN if there are no cases of its class.

    >>> roc([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0]).true_positive_rate.tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    scores, positive, weights = _known(scores, labels, weights)
    order = np.argsort(-scores, kind="stable")
    scores, positive, weights = scores[order], positive[order], weights[order]
    last_of_tie = np.append(np.diff(scores) != 0, True)[: len(scores)]

    def _rate(of_class: np.ndarray) -> np.ndarray:
        count = np.cumsum(weights * of_class)
        total = count[-1] if len(count) else 0.0
        return np.append(0.0, count[last_of_tie]) / total if total else np.full(last_of_tie.sum() + 1, np.nan)

    return Roc(_rate(~positive), _rate(positive), np.append(np.inf, scores[last_of_tie]))


def auc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the area under the ROC curve; NaN if only one class is present.

    It equals the probability that a random positive case scores higher than a random negative one, with ties counting
    one half.

    >>> auc([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0])
    0.875
    """
    curve = roc(scores, labels, weights)
    if np.isnan(curve).any():
        return float("nan")
    steps = np.diff(curve.false_positive_rate)
    return float(steps @ (curve.true_positive_rate[1:] + curve.true_positive_rate[:-1]) / 2)


def auc_delong(scores: np.ndarray, labels: np.ndarray) -> Interval:
    """Compute the AUC with DeLong's 95 % confidence interval, for independent cases.

    If patients have several cases, use `cphloc.metrics.bootstrap.weighted_bootstrap` instead. The interval is a normal
    approximation clipped to [0, 1]; it is NaN with fewer than two positive or two negative cases.

    Source: DeLong et al., 1988; computed from mid-ranks (Sun and Xu, 2014).

    >>> auc_delong([0.9, 0.8, 0.6, 0.7, 0.3, 0.1], [1, 1, 1, 0, 0, 0]).value
    0.8888888888888888
    """
    from scipy import stats  # whose import takes longer than that of all other metrics

    known = ~np.isnan(np.asarray(labels, float))
    scores, positive, _ = _known(scores, labels, None)
    m, n = int(np.count_nonzero(positive)), int(np.count_nonzero(~positive))
    undefined = int(np.count_nonzero(~known))
    if min(m, n) < 2:
        return Interval(auc(scores, positive), math.nan, math.nan, m + n, undefined)
    among_all = stats.rankdata(scores)
    # Per positive case the fraction of negatives ranked below it; per negative case that of positives ranked above it.
    of_positives = (among_all[positive] - stats.rankdata(scores[positive])) / n
    of_negatives = 1 - (among_all[~positive] - stats.rankdata(scores[~positive])) / m
    value = float(of_positives.mean())
    error = math.sqrt(of_positives.var(ddof=1) / m + of_negatives.var(ddof=1) / n)
    half = float(stats.norm.ppf(0.975)) * error
    return Interval(value, max(0.0, value - half), min(1.0, value + half), m + n, undefined)


def sensitivity_at_specificity(
    scores: np.ndarray, labels: np.ndarray, specificity: float, weights: np.ndarray | None = None
) -> float:
    """Compute the highest sensitivity of all thresholds with at least the given specificity.

    NaN if only one class is present.

    Args:
        scores: ``(cases,)`` scores, higher for positive cases.
        labels: ``(cases,)``, 0, 1 or NaN.
        specificity: in [0, 1].
        weights: ``(cases,)`` number of times that each case counts.

    Raises:
        InputError: a specificity outside [0, 1].

    >>> sensitivity_at_specificity([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0], specificity=1.0)
    0.5
    """
    if not 0 <= specificity <= 1:
        msg = f"specificity must be in [0, 1], got {specificity}"
        raise InputError(msg)
    curve = roc(scores, labels, weights)
    if np.isnan(curve).any():
        return float("nan")
    return float(curve.true_positive_rate[curve.false_positive_rate <= 1 - specificity + 1e-12].max())


def decisions(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Decide which classes an image has: where every image has exactly one of several classes, the most probable one.

    Otherwise those whose probability is at least 0.5.

    Args:
        probabilities: ``(cases, K)`` in [0, 1].
        labels: ``(cases, K)``, 0, 1 or NaN; those of fully known cases decide whether classes exclude each other.

    Returns:
        ``(cases, K)``, 0 or 1.

    >>> decisions(np.array([[0.4, 0.3], [0.1, 0.2]]), np.array([[1, 0], [0, 1]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    labels = np.asarray(labels, float)
    classes, of_known = labels.shape[1], labels[~np.isnan(labels).any(axis=1)].sum(axis=1)
    if classes > 1 and len(of_known) and (of_known == 1).all():
        return np.eye(classes)[np.argmax(probabilities, axis=1)]
    return np.greater_equal(probabilities, 0.5).astype(float)


def f1(decided: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute F1 of a class, 2 TP / (2 TP + FP + FN); NaN where no case has the class, by decision or by label.

    Args:
        decided: ``(cases,)``, 0 or 1, see `decisions`.
        labels: ``(cases,)``, 0, 1 or NaN.
        weights: ``(cases,)`` number of times that each case counts.

    >>> f1([1, 1, 0], [1, 0, 1])
    0.5
    """
    decided, positive, weights = _known(decided, labels, weights)
    sizes = weights @ decided + weights @ positive
    return float(2 * (weights @ (decided * positive)) / sizes) if sizes else float("nan")


def brier(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Compute the Brier score, the mean squared error of the predicted probabilities; NaN without cases.

    >>> round(brier([0.9, 0.2], [1, 0]), 9)
    0.025
    """
    probabilities, positive, weights = _known(probabilities, labels, weights)
    return float(np.average((probabilities - positive) ** 2, weights=weights)) if weights.sum() else float("nan")


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10, weights: np.ndarray | None = None
) -> Reliability:
    """Compute the points of a reliability diagram in equal-width bins of predicted probability.

    Args:
        probabilities: ``(cases,)`` in [0, 1].
        labels: ``(cases,)``, 0, 1 or NaN.
        bins: number of bins.
        weights: ``(cases,)`` number of times that each case counts.

    Raises:
        InputError: a probability outside [0, 1].

    >>> reliability([0.1, 0.3, 0.9], [0, 1, 1], bins=2).frequency.tolist()
    [0.5, 1.0]
    """
    probabilities, positive, weights = _known(probabilities, labels, weights)
    if len(probabilities) and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        msg = f"probabilities must be in [0, 1], got {probabilities.min()} to {probabilities.max()}"
        raise InputError(msg)
    edges = np.linspace(0, 1, bins + 1)
    bin_of_case = np.clip(np.digitize(probabilities, edges[1:-1]), 0, bins - 1)
    count, predicted, positives = (
        np.bincount(bin_of_case, weights * values, minlength=bins) for values in (1.0, probabilities, positive)
    )
    with np.errstate(invalid="ignore"):
        return Reliability(edges, predicted / count, positives / count, count)


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10, weights: np.ndarray | None = None
) -> float:
    """Compute the expected calibration error (ECE).

    It is the absolute difference between mean predicted probability and fraction of positives in each equal-width bin,
    averaged over the bins with the number of cases as weight; NaN without cases.

    Args:
        probabilities: ``(cases,)`` in [0, 1].
        labels: ``(cases,)``, 0, 1 or NaN.
        bins: number of bins.
        weights: ``(cases,)`` number of times that each case counts.

    Raises:
        InputError: a probability outside [0, 1].

    Source: Naeini et al., 2015.

    >>> round(expected_calibration_error([0.1, 0.3, 0.9], [0, 1, 1], bins=2), 9)
    0.233333333
    """
    _, confidence, frequency, count = reliability(probabilities, labels, bins, weights)
    filled = count > 0
    if not filled.any():
        return float("nan")
    return float(np.average(np.abs(confidence - frequency)[filled], weights=count[filled]))


def _known(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels as bool, and weights of the cases whose label is known."""
    scores, labels = np.asarray(scores, float), np.asarray(labels, float)
    if scores.shape != labels.shape:
        msg = f"scores and labels must have the same shape, got {scores.shape} and {labels.shape}"
        raise InputError(msg)
    known = ~np.isnan(labels)
    if not np.isin(labels[known], (0, 1)).all():
        msg = f"labels must be 0, 1 or NaN, got {sorted(set(labels[known].tolist()))[:5]}"
        raise InputError(msg)
    if np.isnan(scores[known]).any():
        msg = f"{int(np.isnan(scores[known]).sum())} scores are NaN; check the predictions of the model"
        raise InputError(msg)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, float)
    return scores[known], labels[known].astype(bool), weights[known]
