"""Calibration of masks: whether of the voxels with a probability of 0.8, eight in ten belong to the class.

Sources: Guo et al. 2017, arXiv:1706.04599 (expected calibration error); Mehrtash et al. 2020, IEEE TMI 39, 3868-3878
(of the voxels around an object).
"""

from __future__ import annotations

import numpy as np

from cphloc.metrics.classification import expected_calibration_error
from cphloc.metrics.segmentation import bounding_box
from cphloc.structures.annotation import IGNORE

MARGIN = 8
"""Voxels around the object, on every side, that count as well."""


def mask_calibration_error(
    probabilities: np.ndarray, reference: np.ndarray, label: int = 1, bins: int = 10, margin: int = MARGIN
) -> float:
    """Compute the expected calibration error of the probabilities of one class, over the voxels around its object.

    The voxels of the object's bounding box count, and those of a margin around it. With all voxels of an image the
    error would be close to 0 for any model, because most are background that no model doubts.

    Args:
        probabilities: ``(*S)`` probability of the class in each voxel, in [0, 1].
        reference: ``(*S)`` annotated class mask; voxels of value 255 are not annotated and do not count.
        label: value of the class in the mask.
        bins: number of equal-width bins of probabilities.
        margin: width of the margin in voxels.

    Returns:
        absolute difference between mean probability and share of the class, averaged over the bins with their numbers
        of voxels as weights, in [0, 1]; NaN if the mask does not contain the class.

    >>> object = np.zeros((20, 20), np.uint8)
    >>> object[8:12, 8:12] = 1
    >>> round(mask_calibration_error(np.where(object, 0.75, 0.0), object, margin=0), 2)
    0.25
    """
    inside = reference == label
    box = bounding_box(inside)
    if any(side.stop == side.start for side in box):
        return float("nan")
    window = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
    counted = reference[window] != IGNORE
    predicted = np.clip(probabilities[window][counted], 0, 1)
    return expected_calibration_error(predicted, inside[window][counted].astype(float), bins)
