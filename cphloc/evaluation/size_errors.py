"""Intervals of measured volumes and areas, from the errors of cases that were not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cphloc.evaluation.mask_trials import MaskCase
from cphloc.inference.components import filter_components
from cphloc.metrics.conformal import conformal_quantile, size_error
from cphloc.structures.annotation import IGNORE
from cphloc.structures.options import FEWEST_PATIENTS, Options, SizeIntervals


def size_intervals(
    cases: Sequence[MaskCase], classes: Mapping[int, str], options: Options, level: float = 0.9
) -> SizeIntervals | None:
    """Compute how far the size of each class is from the annotated one in a share ``level`` of patients.

    Of several cases of a patient the largest error counts, because the cases of one patient are not independent.

    Args:
        cases: with masks.
        classes: number 1..K -> name.
        options: applied to the masks, as in predictions.
        level: coverage of the intervals.

    Returns:
        ``None`` if every class is known in fewer than `FEWEST_PATIENTS` patients.
    """
    errors: dict[str, dict[str, float]] = {name: {} for name in classes.values()}
    for case in cases:
        mask, _ = filter_components(case.mask(options.thresholds.get("mask")), case.geometry, classes, options)
        reference, voxel = case.reference.array, case.geometry.voxel_volume
        counted = reference != IGNORE
        for number, name in classes.items():
            if case.known[number - 1]:
                sizes = (np.count_nonzero(counted & (of == number)) * voxel for of in (mask, reference))
                error = size_error(*sizes, dims=case.geometry.dims)
                errors[name][case.patient] = max(error, errors[name].get(case.patient, 0.0))
    enough = {name: list(of.values()) for name, of in errors.items() if len(of) >= FEWEST_PATIENTS}
    if not enough:
        return None
    return SizeIntervals(
        level=level,
        errors={name: conformal_quantile(np.array(of), level) for name, of in enough.items()},
        patients={name: len(of) for name, of in enough.items()},
        unit=cases[0].geometry.unit,
    )
