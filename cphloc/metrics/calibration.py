"""Temperature scaling: calibrate predicted probabilities.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599, for independent labels.
"""

from __future__ import annotations

import numpy as np

from cphloc.errors import InputError

RANGE = (0.05, 20.0)
"""Smallest and largest temperature that `fitted_temperature` considers."""

LEAST_CASES = 10
"""Number of positive labels, and of negative ones, that a temperature is fitted to: with fewer, it is mostly chance."""

_LEAST = 1e-12


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits of probabilities by ``temperature``; a temperature above 1 makes them less certain.

    Args:
        probabilities: any shape, in [0, 1].
        temperature: positive.

    Returns:
        probabilities of the same shape; their ranking does not change.

    Raises:
        InputError: the temperature is not positive.

    >>> tempered(np.array([0.5, 0.9]), 2.0).round(3).tolist()
    [0.5, 0.75]
    """
    if not temperature > 0:
        msg = f"the temperature must be positive, got {temperature}"
        raise InputError(msg)
    clipped = np.clip(np.asarray(probabilities, float), _LEAST, 1 - _LEAST)
    return 1 / (1 + np.exp(-np.log(clipped / (1 - clipped)) / temperature))


def fitted_temperature(probabilities: np.ndarray, labels: np.ndarray, least: int = LEAST_CASES) -> float:
    """Fit the temperature that maximizes the likelihood of the labels of a validation set, within `RANGE`.

    Args:
        probabilities: ``(cases, K)`` in [0, 1].
        labels: ``(cases, K)``, 0 or 1, NaN where unknown.
        least: number of positive labels, and of negative ones, below which the temperature cannot be estimated.

    Returns:
        the temperature; 1 if there are too few labels of either kind.

    >>> labels = np.array([1.0, 1.0, 1.0, 0.0] * 10)[:, None]  # all predicted with 0.99, three of four positive
    >>> round(fitted_temperature(np.full((40, 1), 0.99), labels), 1)
    4.2
    >>> fitted_temperature(np.full((4, 1), 0.99), labels[:4])
    1.0
    """
    from scipy.optimize import minimize_scalar

    probabilities, labels = np.asarray(probabilities, float), np.asarray(labels, float)
    known = ~np.isnan(labels)
    predicted, positive = probabilities[known], labels[known] > 0.5
    if min(positive.sum(), (~positive).sum()) < max(least, 1):
        return 1.0

    def _negative_log_likelihood(log_temperature: float) -> float:
        """Return the mean negative log-likelihood of the labels at a temperature."""
        p = tempered(predicted, np.exp(log_temperature))
        return float(-np.log(np.where(positive, p, 1 - p)).mean())

    optimum = minimize_scalar(_negative_log_likelihood, bounds=tuple(np.log(RANGE)), method="bounded")
    return float(np.exp(optimum.x))
