"""Wrapper for albumentations transforms of images and volumes: photometric, in-plane distortion, dropout.

Only the transforms with a card in ``registry/transform.yaml`` can be used; they preserve the size of the image and need
no other input. In a volume, the same transform is applied to every slice. albumentations expects images in 0..1, so
intensities are scaled to that range and back. Only this module imports albumentations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from cphloc.errors import InputError, needs
from cphloc.structures.annotation import Annotation

_MIN_VISIBLE = 0.25
"""Boxes with less than this fraction of their area inside the patch are dropped."""


class AlbumentationsTransform:
    """Apply one albumentations transform to a patch; implements `cphloc.data.augment.transform.AnnotatedTransform`.

    Args:
        name: class name of the transform in albumentations.
        arguments: arguments of the transform, and ``p``, the probability of applying it (0.5 by default).

    Raises:
        InputError: albumentations rejects the arguments.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        with needs(f"the transform '{name}'"):
            import albumentations

        self.p = float(arguments.get("p", 0.5))
        stated = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items() if k != "p"}
        try:
            transform = getattr(albumentations, name)(**stated, p=1.0)
        except (TypeError, ValueError) as error:
            msg = f"augmentation {name}: albumentations rejects {stated}: {' '.join(str(error).split())}"
            raise InputError(msg) from error
        self.changes_annotation = isinstance(transform, albumentations.DualTransform)
        boxes = albumentations.BboxParams("pascal_voc", label_fields=["number"], min_visibility=_MIN_VISIBLE)
        self.transform = albumentations.Compose([transform], bbox_params=boxes if self.changes_annotation else None)

    def with_annotation(
        self, image: np.ndarray, annotation: Annotation, rng: np.random.Generator
    ) -> tuple[np.ndarray, Annotation]:
        """Transform a patch ``(C, *S)`` float32 together with its mask, region and boxes."""
        self.transform.set_random_seed(int(rng.integers(2**31)))
        axes = tuple(range(1, image.ndim))
        low, high = image.min(axis=axes, keepdims=True), image.max(axis=axes, keepdims=True)
        extent = np.maximum(high - low, np.float32(1e-7))
        slices = ((image - low) / extent).reshape(len(image), -1, *image.shape[-2:])
        targets: dict[str, Any] = {"images": np.ascontiguousarray(np.moveaxis(slices, 0, -1))}
        if self.changes_annotation:
            targets |= _annotation_targets(annotation, image.shape[1:])
        out = self.transform(**targets)
        moved = np.moveaxis(np.asarray(out["images"], np.float32), -1, 0).reshape(image.shape)
        if self.changes_annotation:
            annotation = _transformed(annotation, out, image.shape[1:])
        return moved * extent + low, annotation


def _annotation_targets(annotation: Annotation, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Mask and region slices, and in-plane boxes, in the format of albumentations."""
    region = None if annotation.region is None else np.rint(annotation.region * 100).astype(np.uint8)
    bytes_of = [] if annotation.instances is None else [annotation.instances & 255, annotation.instances >> 8]
    given = (annotation.mask, region, *(each.astype(np.uint8) for each in bytes_of))
    layers = [layer.reshape(-1, *shape[-2:]) for layer in given if layer is not None]
    boxes = np.zeros((0, 2 * len(shape))) if annotation.boxes is None else annotation.boxes
    targets = {"bboxes": boxes[:, _in_plane(len(shape))], "number": np.arange(len(boxes))}
    return targets | ({"masks": np.concatenate(layers)} if layers else {})


def _transformed(annotation: Annotation, out: Mapping[str, Any], shape: tuple[int, ...]) -> Annotation:
    """Annotation with the transformed mask, region and boxes; boxes moved outside the patch are dropped."""
    layers = iter(np.asarray(out["masks"]).reshape(-1, *shape) if "masks" in out else ())
    mask = None if annotation.mask is None else next(layers).astype(np.uint8)
    region = None if annotation.region is None else next(layers).astype(np.float32) / 100
    instances = None if annotation.instances is None else next(layers) + 256 * next(layers).astype(np.int32)
    annotation = replace(annotation, mask=mask, region=region, instances=instances)
    if annotation.boxes is None or annotation.box_classes is None:
        return annotation
    kept = np.asarray(out["number"], int).reshape(-1)
    boxes = annotation.boxes[kept].copy()
    boxes[:, _in_plane(len(shape))] = np.asarray(out["bboxes"]).reshape(-1, 4)
    numbers = None if annotation.box_instances is None else annotation.box_instances[kept]
    return replace(annotation, boxes=boxes, box_classes=annotation.box_classes[kept], box_instances=numbers)


def _in_plane(dims: int) -> list[int]:
    """Indices of ``x0, y0, x1, y1`` (the order of albumentations) in a box ``[lo..., hi...]``."""
    return [dims - 1, dims - 2, 2 * dims - 1, 2 * dims - 2]
