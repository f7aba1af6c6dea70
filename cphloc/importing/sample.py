"""A synthetic image for an imported model, which holds no patient: the sample of its entry, and input of the proof."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from cphloc.data.pipeline.intensity import CT
from cphloc.inference.localizer import Localizer
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

_BORDER = 2
"""Voxels of 0 around the contents, which nnU-Net crops."""
_STRETCH = 1.15
"""Voxel size of the image relative to that of the model, so that resampling is part of the proof."""
_LARGEST = (768, 96)
"""Largest length of an image of 2 and of 3 axes, so that the proof takes seconds."""


def synthetic(localizer: Localizer, seed: int = 0) -> Volume:
    """Draw smooth noise with a border of 0, about as large as a window and in the range of the model's intensities.

    Args:
        localizer: the model.
        seed: random seed.
    """
    recipe, rng = localizer.recipe, np.random.default_rng(seed)
    largest = _LARGEST[recipe.dims - 2]
    shape = [min(max(int(n * 0.9) + 3, 12), largest) for n in recipe.data.patch or (largest,) * recipe.dims]
    shape = [24 if p == 1 else n for n, p in zip(shape, recipe.data.patch or shape, strict=True)]
    channels = np.stack([_channel(rng, shape, scheme) for scheme in localizer.preprocess.intensity])
    if recipe.data.spacing_mm is None:
        picture = Geometry.regular(tuple(shape), unit="px")
        return Volume(channels.clip(0, 255).astype(np.uint8), picture)
    grid = Geometry.regular(tuple(shape), tuple(s * _STRETCH for s in _axes_back(recipe, recipe.data.spacing_mm)))
    return Volume(channels.astype(np.float32), grid)


def _axes_back(recipe: Any, spacing: list[float]) -> list[float]:
    """Spacing of the axes before they are permuted."""
    order = list(range(recipe.dims))
    if recipe.data.monai is not None:
        order.reverse()
    if recipe.data.nnunet is not None:
        order = recipe.data.nnunet.axes
    return [spacing[order.index(axis)] for axis in range(len(order))]


def _channel(rng: np.random.Generator, shape: list[int], scheme: Any) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    middle, spread = 120.0, 40.0
    if isinstance(scheme, CT) and scheme.mean is not None and scheme.std is not None:
        middle, spread = scheme.mean, scheme.std
    values = middle + spread * noise / noise.std()
    inside = np.zeros(shape, bool)
    inside[tuple(slice(_BORDER, -_BORDER) if n > 4 * _BORDER else slice(None) for n in shape)] = True
    return np.where(inside, np.rint(values), 0)
