"""What a model must beat: the mean shape of the training masks, placed by position alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cphloc.data.case import Case, read_case
from cphloc.data.resample import resample
from cphloc.data.volume import reoriented, reoriented_back
from cphloc.errors import DataError
from cphloc.geometry import Geometry


def mean_shape(cases: Sequence[Case], dims: int, classes: int) -> Callable[[Geometry], np.ndarray]:
    """Average the masks of ``cases``, each stretched onto one box in canonical orientation.

    Images that were cropped around the object give its place away; this says by how much. Foreground is where the mean
    shape exceeds the threshold that gives the best mean Dice on the training masks themselves.

    Args:
        cases: training cases; those without a mask do not count.
        dims: 2 or 3.
        classes: number of foreground classes K.

    Returns:
        a function from the grid of an image to the mask ``(*S)`` uint8 that its shape alone predicts.

    Raises:
        DataError: no case has a mask.
    """
    masks = [(volume.geometry, known.mask) for volume, known in (read_case(c, dims) for c in cases)]
    masks = [(geometry, mask) for geometry, mask in masks if mask is not None]
    if not masks:
        msg = "the mean-shape baseline needs training cases with masks, and there is none"
        raise DataError(msg)
    upright = [reoriented(mask, *geometry.canonical()) for geometry, mask in masks]
    box = _unit_box(tuple(int(n) for n in np.median([mask.shape for mask in upright], axis=0)))
    stretched = [
        resample(np.stack([mask == n for n in range(1, classes + 1)]).astype(np.float32), _unit_box(mask.shape), box)
        for mask in upright
    ]
    mean = np.mean(stretched, axis=0)
    threshold = max(np.arange(0.2, 0.61, 0.05), key=lambda t: _mean_dice(mean.sum(axis=0) > t, stretched))

    def predict(geometry: Geometry) -> np.ndarray:
        order, flip = geometry.canonical()
        shape = tuple(geometry.shape[a] for a in order)
        shares = resample(mean, box, _unit_box(shape))
        found = np.where(shares.sum(axis=0) > threshold, 1 + shares.argmax(axis=0), 0).astype(np.uint8)
        return reoriented_back(found, order, flip)

    return predict


def _mean_dice(found: np.ndarray, shares: Sequence[np.ndarray]) -> float:
    whole = [share.sum(axis=0) > 0.5 for share in shares]
    return float(np.mean([2 * (found & w).sum() / max(found.sum() + w.sum(), 1) for w in whole]))


def _unit_box(shape: tuple[int, ...]) -> Geometry:
    """Grid of ``shape`` voxels that fills the unit cube, so that images of any size lie on each other."""
    spacing = tuple(1 / n for n in shape)
    return Geometry(shape, spacing, tuple(s / 2 for s in reversed(spacing)), np.eye(len(shape))[::-1])
