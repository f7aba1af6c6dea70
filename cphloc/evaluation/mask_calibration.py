"""Calibration of the masks of a model, on cases that it was not trained on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from cphloc.config import jsonio
from cphloc.evaluation.mask_trials import MaskCase
from cphloc.metrics.bootstrap import interval
from cphloc.structures.options import MaskCalibration


def mask_calibration(cases: Sequence[MaskCase], classes: Mapping[int, str]) -> MaskCalibration | None:
    """Average the calibration errors of masks over classes and cases, with a 95 % interval by patient.

    Args:
        cases: with masks.
        classes: number 1..K -> name.

    Returns:
        ``None`` if no class is annotated in any case.
    """
    errors = np.array([case.calibration_error for case in cases]).reshape(-1, len(classes))
    if np.isnan(errors).all():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a case without any object, or a class in no case, is NaN
        by_case, by_class = np.nanmean(errors, axis=1), np.nanmean(errors, axis=0)
    found = interval(by_case, [case.patient for case in cases])
    means = {name: float(by_class[number - 1]) for number, name in classes.items()}
    ends = jsonio.plain({"low": found.low, "high": found.high})
    known = {name: error for name, error in means.items() if not np.isnan(error)}
    return MaskCalibration(error=found.value, **ends, cases=found.n, by_class=known)
