"""Augmentation of training patches, from the ``augment`` list of a recipe.

Ours are `Affine`, `Elastic`, `Flip` (spatial), and `Gamma`, `GaussNoise`, `GaussBlur`, `Brightness`, `Contrast`,
`LowResolution` (intensity); they work the same in 2-D and 3-D. Every other name is a transform of albumentations
(`cphloc.data.augment.albumentations`), applied to images or, the same in every slice, to volumes.

Spatial transforms come first, composed into one resampling; the others follow in the order of the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cphloc.data.augment import intensity as augment_intensity
from cphloc.data.augment import spatial as augment_spatial
from cphloc.data.augment.albumentations import ALLOWED, Albumentation
from cphloc.data.augment.spatial import Draw, Flip
from cphloc.data.augment.warp import Warp
from cphloc.errors import InputError, NotFoundError, did_you_mean
from cphloc.structures.annotation import Annotation

SPATIAL = ("Affine", "Elastic", "Flip")
INTENSITY = ("Gamma", "GaussNoise", "GaussBlur", "Brightness", "Contrast", "LowResolution")


class Augmentation:
    """The transforms of one recipe.

    Args:
        blocks: mappings ``{type: name, argument: value, ...}``.
        dims: 2 or 3.
        laterality: whether classes name a side of the body; a flip along the last axis must then swap them.

    Raises:
        InputError: an unknown transform or argument, or a flip that would turn left into right.

    >>> Augmentation([{"type": "Flip", "axes": [0]}, {"type": "GaussNoise"}], dims=3).spatial[0].axes
    (0,)
    """

    def __init__(self, blocks: Sequence[Mapping[str, Any]], dims: int, laterality: bool = False) -> None:
        self.dims = dims
        transforms = [_build(dict(block)) for block in blocks]
        self.spatial = [t for t in transforms if hasattr(t, "draw")]
        self.intensity = [t for t in transforms if not hasattr(t, "draw")]
        for flip in self.spatial:
            if isinstance(flip, Flip):
                _refuse_swapped_sides(flip, dims, laterality)

    def draw(self, rng: np.random.Generator, size: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Draw:
        """Draw the spatial part for one patch of ``size`` voxels of ``spacing_mm``."""
        warp, swaps = Warp.identity(len(size)), []
        for transform in self.spatial:
            if isinstance(transform, Flip) or rng.random() < transform.p:
                drawn = transform.draw(rng, size, spacing_mm)
                warp = warp.then(drawn.warp)
                swaps.append(drawn.swap)
        pending = [s for s in swaps if s]
        return Draw(warp, pending[0] if len(pending) % 2 else None)

    def apply(
        self, image: np.ndarray, annotation: Annotation, rng: np.random.Generator
    ) -> tuple[np.ndarray, Annotation]:
        """Apply the transforms that are not spatial to a patch ``(C, *S)``."""
        for transform in self.intensity:
            if rng.random() >= transform.p:
                continue
            if hasattr(transform, "with_annotation"):
                image, annotation = transform.with_annotation(image, annotation, rng)
            else:
                image = transform(image, rng)
        return np.ascontiguousarray(image, np.float32), annotation


def swap_classes(annotation: Annotation, swap: Mapping[int, int]) -> Annotation:
    """Exchange classes in every rung of ``annotation``.

    >>> swap_classes(Annotation(label=np.array([1.0, 0.0])), {1: 2, 2: 1}).label.tolist()
    [0.0, 1.0]
    """
    table = np.arange(256)
    for old, new in swap.items():
        table[old] = new
    label = annotation.label
    if label is not None:
        label = label[table[1 : len(label) + 1] - 1]
    return replace(
        annotation,
        mask=None if annotation.mask is None else table[annotation.mask].astype(np.uint8),
        box_classes=None if annotation.box_classes is None else table[annotation.box_classes],
        label=label,
    )


def _build(block: dict[str, Any]) -> Any:
    name = block.pop("type")
    if name in SPATIAL:
        kind = getattr(augment_spatial, name)
    elif name in INTENSITY:
        kind = getattr(augment_intensity, name)
    elif name in ALLOWED:
        return Albumentation(name, block)
    else:
        known = (*SPATIAL, *INTENSITY, *ALLOWED)
        msg = f"augmentation '{name}' does not exist; {did_you_mean(name, known) or 'see `cphloc list transforms`'}"
        raise NotFoundError(msg)
    try:
        return kind(**block)
    except TypeError as error:
        msg = f"augmentation {name}: {str(error).partition(') ')[2] or error}; see `cphloc show {name}`"
        raise InputError(msg) from error


def _refuse_swapped_sides(flip: Flip, dims: int, laterality: bool) -> None:
    if laterality and dims - 1 in flip.axes_of(dims) and not flip.swap:
        msg = (
            f"Flip along axis {dims - 1} (left-right) would turn left findings into right ones in this data set; "
            "leave that axis out of `axes`, or name the classes to exchange in `swap`"
        )
        raise InputError(msg)
