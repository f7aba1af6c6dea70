"""Read the annotation of a case from its files, on the grid of its image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cphloc.data.annotation_source import AnnotationSource
from cphloc.data.io.notice import notice
from cphloc.data.io.read import read_mask, read_region
from cphloc.data.io.read_regions import matching, names_regions, read_regions
from cphloc.data.io.regions import Region
from cphloc.data.read_boxes import read_boxes
from cphloc.errors import DataError, did_you_mean
from cphloc.structures.annotation import IGNORE, Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.instances import of_instances


def read_annotation(source: AnnotationSource, images: Sequence[Path], geometry: Geometry) -> Annotation:
    """Read an annotation on the grid of its image.

    Args:
        source: where the annotation is stored.
        images: files of the image, for messages and to check that DICOM annotations belong to them.
        geometry: grid of the image.

    Raises:
        DataError: a file cannot be read, or does not match the image.
    """
    if source.instances is not None:
        annotation = _read_instances(source.instances, geometry)
    elif source.mask is not None and source.rois is not None and names_regions(source.mask):
        annotation = _read_regions(source.mask, source, images, geometry)
    else:
        mask = None if source.mask is None else _read_mask(source.mask, source.mask_classes, geometry)
        annotation = Annotation(mask)
    boxes, box_classes, outlined = read_boxes(source, images, geometry)
    if outlined is not None:
        annotation = outlined
    known = None if source.known is None else np.asarray(source.known, bool)
    if known is not None and source.label is not None:
        known = known | (np.asarray(source.label) == 0)
    drawn = annotation.mask_known if known is None or annotation.mask_known is None else annotation.mask_known & known
    complete = replace(
        annotation,
        boxes=annotation.boxes if boxes is None else boxes,
        box_classes=annotation.box_classes if boxes is None else box_classes,
        mask_known=None if annotation.mask is None else known if drawn is None else drawn,
        boxes_known=None if annotation.boxes is None and boxes is None else known,
        region=None if source.region is None else read_region(source.region, geometry),
        label=None if source.label is None else np.asarray(source.label, np.float32),
    )
    _check_label(complete, images)
    return complete


def _check_label(annotation: Annotation, images: Sequence[Path]) -> None:
    """Raise an error for a class that is absent by the label and has a voxel or a box."""
    if annotation.label is None:
        return
    absent = 1 + np.flatnonzero(annotation.label == 0)
    stated = {"mask": annotation.mask, "boxes": annotation.box_classes}
    for what, values in stated.items():
        found = [] if values is None else absent[np.isin(absent, values)].tolist()
        if found:
            msg = f"{images[0]}: class {found[0]} is absent by its label and present by its {what}; correct one of them"
            raise DataError(msg)


def _read_instances(files: Mapping[Path, int | Mapping[int, int]], geometry: Geometry) -> Annotation:
    """Class mask, boxes and instances of all objects in the instance masks."""
    mask, boxes, box_classes = np.zeros(geometry.shape, np.uint8), [], []
    numbers = np.zeros(geometry.shape, np.int32)
    for path, classes in files.items():
        instances = read_mask(path, like=geometry, binary=False)
        try:
            objects = of_instances(instances, classes)
        except DataError as error:
            msg = f"{path}: {error}"
            raise DataError(msg) from error
        if objects.mask is not None and objects.instances is not None:
            np.copyto(mask, objects.mask, where=objects.mask > 0)
            np.copyto(numbers, objects.instances + sum(map(len, boxes)), where=objects.mask > 0)
        boxes.append(objects.boxes)
        box_classes.append(objects.box_classes)
    joined = np.concatenate(boxes)
    of_boxes = np.arange(1, len(joined) + 1)
    return Annotation(mask, joined, np.concatenate(box_classes), instances=numbers, box_instances=of_boxes)


def _read_mask(path: Path, mask_classes: Mapping[int, int] | None, geometry: Geometry) -> np.ndarray:
    """Class mask ``(*S)`` from a label mask."""
    mask = read_mask(path, like=geometry, binary=IGNORE not in (mask_classes or ()))
    return _class_mask(mask, path, mask_classes)


def _read_regions(path: Path, source: AnnotationSource, images: Sequence[Path], geometry: Geometry) -> Annotation:
    """Class mask of the regions in a file that names them; classes without a voxel in any region are unknown."""
    rois = source.rois or {}
    regions = read_regions(path, geometry, [str(image) for image in images])
    names = {pattern: matching(pattern, regions) for pattern in rois}
    if not any(names.values()):
        if source.mask_classes is not None:
            return Annotation(_read_mask(path, source.mask_classes, geometry))
        wanted = ", ".join(rois)
        msg = f"{path}: has no region named {wanted}, only {', '.join(regions)}; correct `rois`"
        raise DataError(f"{msg}. {did_you_mean(next(iter(rois), ''), regions)}".rstrip(". "))
    mask = np.zeros(geometry.shape, np.uint8)
    known = np.zeros(len(source.known or ()) or max(rois.values()), bool)
    for pattern, number in rois.items():
        for name in names[pattern]:
            if regions[name].problem is not None or regions[name].drawn:
                inside = _draw(path, name, regions[name]) > 0
                if taken := int(np.isin(mask[inside], (0, number), invert=True).sum()):
                    notice(path, f"region '{name}' overlaps other classes in {taken} voxels, which become its own")
                mask[inside] = number
                known[number - 1] |= inside.any()
    if source.label is not None:
        known |= np.asarray(source.label)[: len(known)] == 0
    undrawn = [pattern for pattern, number in rois.items() if not known[number - 1]]
    if undrawn:
        hints = (did_you_mean(pattern, regions) for pattern in undrawn if not names[pattern])
        hint = " ".join(f"({text.removesuffix('?')}? correct `rois`)" for text in hints if text)
        remark = f"has no drawn region for {', '.join(undrawn)}: unknown in this image, not absent {hint}".rstrip()
        notice(path, remark, every=True)
    return Annotation(mask, mask_known=known)


def _draw(path: Path, name: str, region: Region) -> np.ndarray:
    if region.problem is not None:
        msg = f"{path}: region '{name}' {region.problem}"
        raise DataError(msg)
    try:
        return region.draw()
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(str(path)) else f"{path}: region '{name}': {text}") from error


def _class_mask(mask: np.ndarray, path: Path, mask_classes: Mapping[int, int] | None) -> np.ndarray:
    """Replace the values of a mask file by class numbers; values outside the table are an error."""
    if mask_classes is None:
        return mask
    table = np.full(256, IGNORE, np.int64)
    table[0] = 0
    for value, class_number in mask_classes.items():
        table[value] = class_number
    unknown = sorted(set(np.unique(mask).tolist()) - set(mask_classes) - {0, IGNORE})
    if unknown:
        msg = f"{path}: holds value {unknown[0]}, which is not a declared class; declare it in `classes` or remap it"
        raise DataError(msg)
    return table[mask].astype(np.uint8)
