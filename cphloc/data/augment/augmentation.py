"""Augmentation of training patches with the transforms in ``data.augment`` of a recipe.

The available transforms are listed in ``registry/transform.yaml`` and in ``transform.yaml`` of plug-ins. A card with
``import:`` refers to a class that implements a protocol of `cphloc.data.augment.transform`; a card without it is an
albumentations transform (`cphloc.data.augment.albumentations`).

Spatial transforms are applied first, composed into one resampling; the others are applied in the order of the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cphloc.data.augment.albumentations import AlbumentationsTransform
from cphloc.data.augment.intensity import LowResolution
from cphloc.data.augment.spatial import Flip
from cphloc.data.augment.transform import AnnotatedTransform, Draw, SpatialTransform, Transform
from cphloc.data.augment.warp import Warp
from cphloc.data.from_card import check_arguments, make
from cphloc.errors import InputError
from cphloc.registry import catalogue
from cphloc.structures.annotation import Annotation


class Augmentation:
    """Apply the transforms of one recipe to training patches.

    Args:
        blocks: mappings ``{type: name, argument: value, ...}``, one per transform.
        dims: number of spatial axes, 2 or 3.
        laterality: whether classes are specific to a body side; a flip along the last axis must then swap them.

    Raises:
        NotFoundError: there is no transform with that name.
        InputError: an argument is invalid, an axis does not exist, or a left-right flip does not swap the classes of
            the body sides.

    >>> Augmentation([{"type": "Flip", "axes": [0]}, {"type": "GaussNoise"}], dims=3).spatial[0].axes
    (0,)
    """

    def __init__(self, blocks: Sequence[Mapping[str, Any]], dims: int, laterality: bool = False) -> None:
        self.dims = dims
        transforms = [_build(block) for block in blocks]
        self.spatial = [t for t in transforms if isinstance(t, SpatialTransform)]
        self.on_patch = [t for t in transforms if not isinstance(t, SpatialTransform)]
        for transform in transforms:
            if isinstance(transform, Flip | LowResolution):
                transform.axes_of(dims)
            if isinstance(transform, Flip):
                _refuse_swapped_sides(transform, dims, laterality)

    def draw(self, rng: np.random.Generator, size: tuple[int, ...], spacing_mm: tuple[float, ...]) -> Draw:
        """Sample the spatial transforms for a patch of ``size`` voxels with ``spacing_mm``, composed into one warp."""
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
        """Apply the non-spatial transforms, each with its probability, to a patch ``(C, *S)``."""
        for transform in self.on_patch:
            if rng.random() >= transform.p:
                continue
            if isinstance(transform, AnnotatedTransform):
                image, annotation = transform.with_annotation(image, annotation, rng)
            else:
                image = transform(image, rng)
        return np.ascontiguousarray(image, np.float32), annotation


def swap_classes(annotation: Annotation, swap: Mapping[int, int]) -> Annotation:
    """Renumber the classes of an annotation: mask, boxes and label.

    Args:
        annotation: annotation to renumber.
        swap: old class number -> new class number; other classes are unchanged.

    >>> swap_classes(Annotation(label=np.array([1.0, 0.0])), {1: 2, 2: 1}).label.tolist()
    [0.0, 1.0]
    """
    table = np.arange(256)
    for old, new in swap.items():
        table[old] = new
    numbers = annotation.box_classes
    label = annotation.label
    if label is not None:
        label = label[table[1 : len(label) + 1] - 1]
    mask_known, boxes_known = (
        known if known is None else known[table[1 : len(known) + 1] - 1]
        for known in (annotation.mask_known, annotation.boxes_known)
    )
    return replace(
        annotation,
        mask=None if annotation.mask is None else table[annotation.mask].astype(np.uint8),
        box_classes=None if numbers is None else np.sign(numbers) * table[np.abs(numbers)],
        label=label,
        mask_known=mask_known,
        boxes_known=boxes_known,
    )


def _build(block: Mapping[str, Any]) -> Transform:
    arguments = {key: value for key, value in block.items() if key != "type"}
    name = str(block["type"])
    card = catalogue.card("transform", name)
    if card.import_ is None:
        check_arguments(card, arguments)
        return AlbumentationsTransform(name, arguments)
    return make("transform", name, arguments)


def _refuse_swapped_sides(flip: Flip, dims: int, laterality: bool) -> None:
    if laterality and dims - 1 in flip.axes_of(dims) and not flip.swap:
        msg = (
            f"Flip along axis {dims - 1} (left-right) would turn left findings into right ones in this data set; "
            "leave that axis out of `axes`, or name the classes to exchange in `swap`"
        )
        raise InputError(msg)
