"""Protocols of the three kinds of augmentation transforms.

A plug-in adds a transform by a card ``Name: {summary: ..., import: module:Class}`` in ``transform.yaml`` of its card
folder. The class must implement one of these protocols, and its constructor must annotate every argument with a type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from cphloc.data.augment.warp import Warp
from cphloc.structures.annotation import Annotation


@dataclass(frozen=True)
class Draw:
    """Sampled parameters of the spatial transforms of one patch.

    Args:
        warp: mapping from patch to image coordinates.
        swap: old -> new class number, after a left-right flip; ``None`` leaves the classes unchanged.
    """

    warp: Warp
    swap: Mapping[int, int] | None = None


@runtime_checkable
class SpatialTransform(Protocol):
    """Spatial transform, defined by a warp that is applied to image, mask, region and boxes alike."""

    p: float
    """Probability of applying the transform to a patch, or for `Flip` of flipping each axis."""

    def draw(self, rng: np.random.Generator, size: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Draw:
        """Sample a warp for one patch.

        Args:
            rng: random number generator; no other may be used.
            size: size of the patch ``(*S)`` in voxels.
            spacing_mm: voxel size, in array axis order.
        """
        ...


@runtime_checkable
class AnnotatedTransform(Protocol):
    """Transform of a patch together with its annotation, without resampling from the image."""

    p: float
    """Probability of applying the transform to a patch."""

    def with_annotation(
        self, image: np.ndarray, annotation: Annotation, rng: np.random.Generator
    ) -> tuple[np.ndarray, Annotation]:
        """Transform a patch ``(C, *S)`` and its annotation; neither changes its shape."""
        ...


@runtime_checkable
class ImageTransform(Protocol):
    """Transform of the intensities of a patch; the annotation is unchanged."""

    p: float
    """Probability of applying the transform to a patch."""

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform a patch ``(C, *S)`` float32 into one of the same shape."""
        ...


Transform = SpatialTransform | AnnotatedTransform | ImageTransform
"""Any transform that a recipe can name under ``data.augment``."""
