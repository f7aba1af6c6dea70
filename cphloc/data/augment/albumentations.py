"""Transforms of albumentations: photometric ones, in-plane distortions and dropout, for images and volumes.

A volume gets the same transform in all slices. Intensities are brought to 0..1 for it and back, since that is the
scale albumentations expects of floating-point images. Nothing else in cphloc imports albumentations.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from cphloc.errors import InputError
from cphloc.structures.annotation import Annotation

DISTORTIONS = ("GridDistortion", "OpticalDistortion", "Perspective", "ThinPlateSpline")
DROPOUT = ("CoarseDropout", "GridDropout", "PixelDropout")
PHOTOMETRIC = (
    "AdvancedBlur",
    "AutoContrast",
    "CLAHE",
    "ColorJitter",
    "Defocus",
    "Downscale",
    "Emboss",
    "Equalize",
    "GlassBlur",
    "HueSaturationValue",
    "Illumination",
    "ImageCompression",
    "InvertImg",
    "MedianBlur",
    "MotionBlur",
    "MultiplicativeNoise",
    "PlasmaBrightnessContrast",
    "PlasmaShadow",
    "Posterize",
    "RandomBrightnessContrast",
    "RandomToneCurve",
    "RingingOvershoot",
    "SaltAndPepper",
    "Sharpen",
    "ShotNoise",
    "Solarize",
    "ToGray",
    "UnsharpMask",
    "ZoomBlur",
)
ALLOWED = (*DISTORTIONS, *DROPOUT, *PHOTOMETRIC)
"""Names that a recipe may use; each keeps the size of the image and needs nothing but the image."""


class Albumentation:
    """One allow-listed transform of albumentations.

    Args:
        name: one of `ALLOWED`.
        arguments: its own arguments, and ``p``.

    Raises:
        InputError: albumentations refuses the arguments.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
        import albumentations

        self.p = float(arguments.get("p", 0.5))
        stated = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items() if k != "p"}
        try:
            transform = getattr(albumentations, name)(**stated, p=1.0)
        except (TypeError, ValueError) as error:
            msg = f"augmentation {name}: albumentations refuses {stated}: {' '.join(str(error).split())}"
            raise InputError(msg) from error
        self.moves = name not in PHOTOMETRIC
        boxes = albumentations.BboxParams("pascal_voc", label_fields=["number"], min_visibility=0.25)
        self.transform = albumentations.Compose([transform], bbox_params=boxes if self.moves else None)

    def with_annotation(
        self, image: np.ndarray, annotation: Annotation, rng: np.random.Generator
    ) -> tuple[np.ndarray, Annotation]:
        """Transform a patch ``(C, *S)`` with everything known about it."""
        self.transform.set_random_seed(int(rng.integers(2**31)))
        axes = tuple(range(1, image.ndim))
        low, high = image.min(axis=axes, keepdims=True), image.max(axis=axes, keepdims=True)
        extent = np.maximum(high - low, np.float32(1e-7))
        slices = ((image - low) / extent).reshape(len(image), -1, *image.shape[-2:])
        given = {"images": np.ascontiguousarray(np.moveaxis(slices, 0, -1))}
        out = self.transform(**given, **(_targets(annotation, image.shape[1:]) if self.moves else {}))
        moved = np.moveaxis(np.asarray(out["images"], np.float32), -1, 0).reshape(image.shape)
        return moved * extent + low, _moved(annotation, out, image.shape[1:]) if self.moves else annotation


def _targets(annotation: Annotation, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """What albumentations moves along with the image: slices of mask and region, and boxes within the plane."""
    region = None if annotation.region is None else np.rint(annotation.region * 100).astype(np.uint8)
    layers = [layer.reshape(-1, *shape[-2:]) for layer in (annotation.mask, region) if layer is not None]
    boxes = np.zeros((0, 2 * len(shape))) if annotation.boxes is None else annotation.boxes
    targets = {"bboxes": boxes[:, _in_plane(len(shape))], "number": np.arange(len(boxes))}
    return targets | ({"masks": np.concatenate(layers)} if layers else {})


def _moved(annotation: Annotation, out: Mapping[str, Any], shape: tuple[int, ...]) -> Annotation:
    """The annotation with what came back; boxes that left the image are gone."""
    layers = iter(np.asarray(out["masks"]).reshape(-1, *shape) if "masks" in out else ())
    mask = None if annotation.mask is None else next(layers).astype(np.uint8)
    region = None if annotation.region is None else next(layers).astype(np.float32) / 100
    annotation = replace(annotation, mask=mask, region=region)
    if annotation.boxes is None:
        return annotation
    kept = np.asarray(out["number"], int).reshape(-1)
    boxes = annotation.boxes[kept].copy()
    boxes[:, _in_plane(len(shape))] = np.asarray(out["bboxes"]).reshape(-1, 4)
    return replace(annotation, boxes=boxes, box_classes=annotation.box_classes[kept])


def _in_plane(dims: int) -> list[int]:
    """Where ``x0, y0, x1, y1`` stand in a box ``[lo..., hi...]``."""
    return [dims - 1, dims - 2, 2 * dims - 1, 2 * dims - 2]
