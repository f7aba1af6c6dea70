"""The three protocols of transforms of training patches.

A plug-in adds a transform by a card in ``transform.yaml`` of its folder of cards,
``Name: {summary: ..., import: module:Class}``, whose class follows one of these protocols. Its constructor names every
argument with a type.
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
    """What spatial transforms drew for one patch.

    Args:
        warp: where each voxel of the patch comes from.
        swap: class number -> class number that it becomes, because left and right were mirrored; ``None`` for none.
    """

    warp: Warp
    swap: Mapping[int, int] | None = None


@runtime_checkable
class SpatialTransform(Protocol):
    """A transform that moves voxels: it draws a warp, with which image, mask, region and boxes are cut together."""

    p: float
    """Probability that it is applied to a patch; of `Flip`, to each axis."""

    def draw(self, rng: np.random.Generator, size: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Draw:
        """Draw a warp for one patch.

        Args:
            rng: the only source of randomness.
            size: voxels of the patch ``(*S)``.
            spacing_mm: voxel size, array order.
        """
        ...


@runtime_checkable
class AnnotatedTransform(Protocol):
    """A transform that changes the image of a patch and its annotation together, on the grid of the patch."""

    p: float
    """Probability that it is applied to a patch."""

    def with_annotation(
        self, image: np.ndarray, annotation: Annotation, rng: np.random.Generator
    ) -> tuple[np.ndarray, Annotation]:
        """Transform a patch ``(C, *S)`` and its annotation; neither changes its shape."""
        ...


@runtime_checkable
class ImageTransform(Protocol):
    """A transform that changes the intensities of a patch and keeps its annotation."""

    p: float
    """Probability that it is applied to a patch."""

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform a patch ``(C, *S)`` float32 into one of the same shape."""
        ...


Transform = SpatialTransform | AnnotatedTransform | ImageTransform
"""Any transform that a recipe can name under ``data.augment``."""
