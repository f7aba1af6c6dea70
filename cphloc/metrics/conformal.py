"""Prediction intervals with a guaranteed coverage, by split conformal prediction.

Source: Lei et al. 2018, Distribution-Free Predictive Inference for Regression, arXiv:1604.04173.
"""

from __future__ import annotations

import math

import numpy as np

from cphloc.errors import InputError


def conformal_quantile(errors: np.ndarray, level: float = 0.9) -> float:
    """Return the error that a new case exceeds with a probability of at most ``1 - level``.

    It is the ``ceil((n + 1) level)``-th smallest of the errors of ``n`` exchangeable cases that were not trained on.

    Args:
        errors: ``(n,)`` absolute errors; NaN are left out.
        level: coverage, in (0, 1).

    Returns:
        the quantile; infinite where ``n`` is too small for the level, which for 0.9 is below 9.

    Raises:
        InputError: the level is not in (0, 1).

    >>> conformal_quantile(np.arange(1.0, 10.0)), conformal_quantile(np.arange(1.0, 9.0))
    (9.0, inf)
    """
    if not 0 < level < 1:
        msg = f"the level is a coverage between 0 and 1, got {level}"
        raise InputError(msg)
    known = np.sort(np.asarray(errors, float)[~np.isnan(errors)])
    rank = math.ceil((len(known) + 1) * level - 1e-9)
    return float(known[rank - 1]) if rank <= len(known) else math.inf


def size_error(predicted: float, reference: float, dims: int) -> float:
    """Return the difference of two volumes or areas as a length: that of the edges of cubes (squares) of these sizes.

    An error of the boundary changes large and small objects by about the same length.

    Args:
        predicted: volume in mm3, or area in mm2.
        reference: likewise.
        dims: 3 or 2.

    >>> round(size_error(27.0, 8.0, dims=3), 6)
    1.0
    """
    return abs(predicted ** (1 / dims) - reference ** (1 / dims))


def size_interval(predicted: float, error: float, dims: int) -> tuple[float, float]:
    """Return the smallest and the largest size whose `size_error` is at most ``error``.

    Args:
        predicted: volume in mm3, or area in mm2.
        error: in mm.
        dims: 3 or 2.

    >>> [round(end, 6) for end in size_interval(27.0, 1.0, dims=3)]
    [8.0, 64.0]
    """
    edge = predicted ** (1 / dims)
    return max(edge - error, 0.0) ** dims, (edge + error) ** dims
