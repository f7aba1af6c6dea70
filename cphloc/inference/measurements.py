"""Measure the classes of a predicted mask: volume or area, diameter, uncertainty, and the interval of the size."""

from __future__ import annotations

import numpy as np

from cphloc.metrics.conformal import size_interval
from cphloc.metrics.response import longest_diameter_mm
from cphloc.structures.geometry import Geometry
from cphloc.structures.options import SizeIntervals


def measured(
    name: str, inside: np.ndarray, grid: Geometry, uncertainty: np.ndarray | None, sizes: SizeIntervals | None
) -> dict[str, float]:
    """Measure one class, see `Localization.measurements`.

    Args:
        name: name of the class.
        inside: ``(*S)`` bool.
        grid: of the mask.
        uncertainty: ``(*S)`` in [0, 1]; ``None`` where it was not requested.
        sizes: errors of measured sizes; ``None`` where they are not known.
    """
    amount, unit = float(np.count_nonzero(inside)) * grid.voxel_volume, grid.unit
    key, factor = f"area_{unit}2", 1.0
    if grid.dims == 3:
        key, factor = ("volume_ml", 1000.0) if unit == "mm" else (f"volume_{unit}3", 1.0)
    found = {key: amount / factor}
    if sizes is not None and sizes.unit == unit and name in sizes.errors:
        low, high = size_interval(amount, sizes.errors[name], grid.dims)
        level = f"{100 * sizes.level:g}"
        found |= {f"{key}_low_{level}": low / factor, f"{key}_high_{level}": high / factor}
    found[f"longest_diameter_{unit}"] = longest_diameter_mm(inside, grid)
    if uncertainty is not None and inside.any():
        found["mean_uncertainty"] = float(uncertainty[inside].mean())
    return found
