"""Read the boxes, spheres and outlines of a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cphloc.data.annotation_source import AnnotationSource
from cphloc.data.io.exif import exchanges_axes, exif_orientation, turned, turned_boxes
from cphloc.data.io.formats import PICTURE_SUFFIXES
from cphloc.errors import DataError
from cphloc.structures.annotation import IGNORE, Annotation
from cphloc.structures.boxes import clip_boxes
from cphloc.structures.geometry import Geometry


def read_boxes(
    source: AnnotationSource, images: Sequence[Path], geometry: Geometry
) -> tuple[np.ndarray | None, np.ndarray | None, Annotation | None]:
    """Read boxes and outlines on the grid of the image.

    Args:
        source: where the annotation is stored.
        images: files of the image.
        geometry: grid of the image.

    Returns:
        boxes ``(n, 2 D)``, their classes ``(n,)``, and mask and instances of the outlines; ``None`` for what is not
        stated.

    Raises:
        DataError: a box covers nothing of the image or is not finite, or the annotation is of a picture of another
            size.
    """
    if source.boxes is None and source.spheres is None:
        return None, None, None
    orientation = _orientation(source, images, geometry)
    shape = geometry.shape[::-1] if orientation != 1 else geometry.shape
    if source.relative:
        source = _in_pixels(source, shape)
    boxes = np.asarray(source.boxes or (), np.float32).reshape(-1, 2 * geometry.dims)
    if orientation != 1:
        boxes = turned_boxes(boxes, (shape[0], shape[1]), orientation).astype(np.float32)
    classes = np.asarray(source.box_classes + source.sphere_classes, np.int64)
    outlined = None
    if source.outlines:
        mask, instances = (turned(m, orientation) for m in _outlined(source, images[0], (shape[0], shape[1])))
        numbers = np.zeros(len(classes), np.int64)
        numbers[: len(source.outlines)] = np.where(
            [o is not None for o in source.outlines], np.arange(len(source.outlines)) + 1, 0
        )
        outlined = Annotation(mask, instances=instances, box_instances=numbers)
    return _checked_boxes(source, boxes, images, geometry), classes, outlined


def _orientation(source: AnnotationSource, images: Sequence[Path], geometry: Geometry) -> int:
    """EXIF orientation by which the annotation has to be turned; 1 where it is that of the picture as shown."""
    if source.size is None or source.size == geometry.shape:
        return 1
    path = images[0]
    if source.size == geometry.shape[::-1] and path.name.lower().endswith(PICTURE_SUFFIXES):
        orientation = exif_orientation(path)
        if exchanges_axes(orientation):
            return orientation
    stated, own = (" x ".join(map(str, size)) for size in (source.size, geometry.shape))
    msg = (
        f"{path}: has {own} pixels (height x width) but its annotation is of a picture of {stated}; annotate this "
        "picture, or correct width and height"
    )
    raise DataError(msg)


def _in_pixels(source: AnnotationSource, shape: tuple[int, ...]) -> AnnotationSource:
    """Convert boxes and outlines that are fractions of the picture's size."""
    size = np.tile(shape, 2)
    boxes = tuple(tuple((np.asarray(box) * size).tolist()) for box in source.boxes or ())
    outlines = tuple(o and o.scaled((shape[0], shape[1])) for o in source.outlines or ())
    return replace(source, boxes=boxes, outlines=outlines or None)


def _outlined(source: AnnotationSource, path: Path, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Class mask and instances ``(H, W)``; where outlines overlap, the last one is used. Boxes without an outline, and
    regions to ignore, are unknown.
    """
    mask, instances = np.zeros(shape, np.uint8), np.zeros(shape, np.int32)
    objects = list(zip(source.boxes or (), source.box_classes, source.outlines or (), strict=True))
    for number, (box, class_number, outline) in sorted(enumerate(objects), key=lambda item: item[1][1] > 0):
        try:
            inside = _pixels_of(box, shape) if outline is None else outline.draw(shape)
        except DataError as error:
            msg = f"{path}: object {number + 1}: {error}; correct its annotation"
            raise DataError(msg) from error
        unknown = outline is None or class_number < 0
        mask[inside & (mask == 0) if unknown else inside] = IGNORE if unknown else class_number
        instances[inside] = 0 if unknown else number + 1
    return mask, instances


def _pixels_of(box: tuple[float, ...], shape: tuple[int, int]) -> np.ndarray:
    rows, columns = (np.arange(n) + 0.5 for n in shape)
    across = (columns > box[1]) & (columns < box[3])
    return ((rows > box[0]) & (rows < box[2]))[:, None] & across


def _checked_boxes(
    source: AnnotationSource, boxes: np.ndarray, images: Sequence[Path], geometry: Geometry
) -> np.ndarray:
    """Boxes of a source and around its spheres ``(n, 2 D)``, after the check that each covers a part of the image."""
    dims = geometry.dims
    spheres = np.asarray(source.spheres or (), float).reshape(-1, dims + 1)
    if not (np.isfinite(boxes).all() and np.isfinite(spheres).all()):
        msg = f"{images[0]}: a box is not finite; correct its coordinates or leave it out"
        raise DataError(msg)
    centre, radius = geometry.world_to_edges(spheres[:, :dims]), spheres[:, dims:] / 2 / geometry.spacing_mm
    around_spheres = np.concatenate([centre - radius, centre + radius], axis=1).astype(np.float32)
    boxes = np.concatenate([boxes, around_spheres])
    _, kept = clip_boxes(boxes, geometry.shape)
    if not kept.all():
        outside = boxes[np.argmin(kept)].tolist()
        msg = (
            f"{images[0]}: box {outside} covers nothing of the image of {geometry.shape} voxels; it must be "
            "[lo..., hi...] in array order, as are points in LPS mm once in voxels"
        )
        raise DataError(msg)
    return boxes
