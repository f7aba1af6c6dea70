"""Compare predictions with and without an option on the same cases, and decide whether it is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cphloc.metrics.bootstrap import Difference, paired_difference
from cphloc.registry.metrics import quality
from cphloc.structures.options import OptionName, Trial

LEAST_GAIN: dict[OptionName, float] = {
    "tta": 0.002,
    "temperature": 0.0005,
    "threshold": 0.005,
    "min_probability": 0.005,
    "largest": 0.0005,
    "min_size": 0.0005,
}
"""Gain that an option must exceed, by its name: at least one that is not 0 with three decimals.

Mirrored views multiply the time of a prediction, and the best of many thresholds gains a little by chance.
"""


def compared(
    option: OptionName,
    value: str,
    metric: str,
    before: np.ndarray,
    after: np.ndarray,
    patients: Sequence[str],
    of: str | None = None,
    time: float = 1.0,
) -> Trial:
    """Compare an option by the mean paired difference of a metric of single cases.

    Args:
        option: what was tried.
        value: its value, in words.
        metric: name of the metric.
        before: ``(cases,)`` metric without the option; NaN where undefined.
        after: ``(cases,)`` metric with it.
        patients: patient of each case, by which the interval is resampled.
        of: class or part that it applies to.
        time: factor by which it multiplies the time of a prediction.
    """
    oriented = [np.array([quality(metric, float(v)) for v in values]) for values in (after, before)]
    gain = paired_difference(*oriented, groups=patients)
    paired = ~np.isnan(np.asarray(before) - np.asarray(after))
    means = [float(np.mean(np.asarray(values)[paired])) if paired.any() else math.nan for values in (before, after)]
    return decided(option, value, metric, (means[0], means[1]), gain, of, time)


def decided(
    option: OptionName,
    value: str,
    metric: str,
    means: tuple[float, float],
    gain: Difference,
    of: str | None = None,
    time: float = 1.0,
) -> Trial:
    """Make the trial of an option from its gain; it is kept where that exceeds `LEAST_GAIN`.

    Args:
        option: what was tried.
        value: its value, in words.
        metric: name of the metric.
        means: metric without and with the option.
        gain: paired difference, oriented such that more is better.
        of: class or part that it applies to.
        time: factor by which it multiplies the time of a prediction.
    """
    least = LEAST_GAIN[option]
    kept = bool(gain.value > least)  # False for NaN
    why = "gains" if kept else f"gains no more than {least:g}" if gain.value > 0 else "gains nothing"
    stated: dict[str, Any] = {"gain": gain.value, "low": gain.low, "high": gain.high}
    stated |= {"before": means[0], "after": means[1]}
    finite = {name: None if not math.isfinite(v) else float(v) for name, v in stated.items()}
    return Trial(option=option, value=value, of=of, metric=metric, n=gain.n, time=time, kept=kept, why=why, **finite)


def not_tried(option: OptionName, why: str, of: str | None = None) -> Trial:
    """Make the trial of an option that could not be tried.

    Args:
        option: the option.
        why: reason, in words.
        of: class or part that it would apply to.
    """
    return Trial(option=option, value="-", of=of, kept=False, why=why)
