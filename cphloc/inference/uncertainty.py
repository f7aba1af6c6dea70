"""Derive masks and their uncertainty from class probabilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cphloc.errors import InputError
from cphloc.inference.localization import Localization


def with_masks(result: Localization, probabilities: np.ndarray | None, uncertainty: bool) -> Localization:
    """Add the most probable class of every voxel to a result and, on request, its uncertainty.

    Args:
        result: a result on the image's own grid.
        probabilities: ``(K + 1, *S)`` class probabilities on that grid, of any positive sum; ``None`` without masks.
        uncertainty: add the `entropy` of every voxel's class probabilities.

    Raises:
        InputError: ``uncertainty`` of a model that predicts no mask.
    """
    if probabilities is None:
        if uncertainty:
            msg = "uncertainty is that of a mask, and this model predicts none; predict without it"
            raise InputError(msg)
        return result
    masks = probabilities.argmax(axis=0).astype(np.uint8)
    return replace(result, masks=masks, uncertainty=entropy(probabilities) if uncertainty else None)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of class probabilities, from 0 (one class is certain) to 1 (all are equal).

    Args:
        probabilities: ``(K + 1, *S)``, of any positive sum over the classes.

    Returns:
        ``(*S)`` float32; 0 where all are 0.

    >>> entropy(np.array([[0.5, 1.0], [0.5, 0.0]])).tolist()
    [1.0, 0.0]
    """
    total = probabilities.sum(axis=0)
    result = np.zeros(total.shape, np.float32)
    for of_class in probabilities:
        share = np.divide(of_class, total, out=np.zeros_like(total), where=total > 0).clip(0, 1)
        result -= share * np.log(np.where(share > 0, share, 1))
    return result / np.float32(np.log(len(probabilities)))
