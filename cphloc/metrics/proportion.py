"""Confidence interval of a proportion."""

from __future__ import annotations

import math

from cphloc.errors import InputError


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Compute the 95 % Wilson score interval of a proportion; (0, 1) without trials.

    Args:
        successes: number of successes, from 0 to ``n``.
        n: number of trials.

    Raises:
        InputError: more successes than trials, or a negative number of successes.

    >>> [round(p, 3) for p in wilson(5, 6)]
    [0.436, 0.97]
    """
    if not 0 <= successes <= n * (1 + 1e-12):
        msg = f"successes must be between 0 and the number of trials, got {successes:g} of {n:g}"
        raise InputError(msg)
    if n == 0:
        return 0.0, 1.0
    z = 1.959963984540054
    share = min(1.0, successes / n)
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))
