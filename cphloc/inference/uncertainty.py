"""Derive masks and their uncertainty from class probabilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cphloc.data.pipeline.slabs import class_mask
from cphloc.errors import InputError
from cphloc.inference.localization import Localization


def with_masks(
    result: Localization, probabilities: np.ndarray | None, uncertainty: bool, threshold: float | None = None
) -> Localization:
    """Add masks and optionally their uncertainty to a result.

    Args:
        result: result of a prediction, without masks.
        probabilities: ``(K + 1, *S)`` class probabilities on the grid of the image, with any positive sum over the
            classes; ``None`` if the model does not predict masks.
        uncertainty: whether to add the `entropy` of the class probabilities of every voxel.
        threshold: least probability of an object; see `cphloc.data.pipeline.slabs.class_mask`.

    Raises:
        InputError: ``uncertainty`` is requested, but the model does not predict masks.
    """
    if probabilities is None:
        if uncertainty:
            msg = "uncertainty needs a model that predicts masks, and this one does not; predict without uncertainty"
            raise InputError(msg)
        return result
    masks = class_mask(probabilities, threshold)
    return replace(result, masks=masks, uncertainty=entropy(probabilities) if uncertainty else None)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Compute the normalized entropy of class probabilities, from 0 (one class is certain) to 1 (all are equal).

    Args:
        probabilities: ``(K + 1, *S)``, with any positive sum over the classes.

    Returns:
        ``(*S)`` float32; 0 where all probabilities are 0.

    >>> entropy(np.array([[0.5, 1.0], [0.5, 0.0]])).tolist()
    [1.0, 0.0]
    """
    total = probabilities.sum(axis=0)
    result = np.zeros(total.shape, np.float32)
    for of_class in probabilities:
        share = np.divide(of_class, total, out=np.zeros_like(total), where=total > 0).clip(0, 1)
        result -= share * np.log(np.where(share > 0, share, 1))
    return result / np.float32(np.log(len(probabilities)))
