"""One case of a data set: where its images are and what is known about it."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cphloc.annotation import IGNORE, Annotation
from cphloc.data.read import read_mask, read_volume
from cphloc.data.volume import Volume
from cphloc.errors import DataError
from cphloc.geometry import Geometry


@dataclass(frozen=True)
class Marks:
    """How a case is annotated, as paths and numbers; nothing is read until `read_case`. Absent parts are ``None``.

    Args:
        mask: mask image on the grid of the case, or a DICOM RTSTRUCT where ``rois`` is given.
        mask_classes: value in the mask file -> class 0..K or 255 (not annotated); ``None`` keeps the values.
        rois: name of a region of interest in the RTSTRUCT, with wildcards -> class 1..K; later ones lie on top.
        boxes: voxel edges ``[lo..., hi...]`` in array-axis order of the file, with ``box_classes`` 1..K.
        spheres: world ``(x, y, z, diameter)`` in LPS millimetres (LUNA16), each of ``sphere_classes`` 1..K.
        region: image with values in [0, 1] or 0/255 of where the finding may lie.
        label: K entries: 1 present, 0 absent, NaN unknown.
    """

    mask: Path | None = None
    mask_classes: Mapping[int, int] | None = None
    rois: Mapping[str, int] | None = None
    boxes: tuple[tuple[float, ...], ...] | None = None
    box_classes: tuple[int, ...] = ()
    spheres: tuple[tuple[float, ...], ...] | None = None
    sphere_classes: tuple[int, ...] = ()
    region: Path | None = None
    label: tuple[float, ...] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold annotations."""
        return tuple(p for p in (self.mask, self.region) if p is not None)


@dataclass(frozen=True)
class Case:
    """One image of a data set.

    Args:
        id: unique in its data set; part of the fingerprint.
        patient: cases of one patient (or one cluster of near-duplicates) share it and never fall into two splits.
        images: one file per channel, or one file that holds all channels.
        marks: what is annotated.
        spacing_mm: voxel size for files that state none, array order.
        tile: ``(number, of how many)`` per axis where the case is one part of the image (`cphloc.data.tiles`).
    """

    id: str
    patient: str
    images: tuple[Path, ...]
    marks: Marks = field(default_factory=Marks)
    spacing_mm: tuple[float, ...] | None = None
    tile: tuple[tuple[int, int], ...] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that make up the case."""
        return self.images + self.marks.files


def read_case(case: Case, dims: int | None = None) -> tuple[Volume, Annotation]:
    """Read the image and the annotation of a case, both in the file's own frame.

    Args:
        case: what to read.
        dims: 2 or 3 where the data set states it; otherwise the file decides.

    Raises:
        DataError: a file cannot be read, channels lie on different grids, or the annotation does not fit the image.
    """
    paths = case.images[0] if len(case.images) == 1 else list(case.images)
    volume = read_volume(paths, spacing_mm=case.spacing_mm, dims=dims)
    annotation = _read_marks(case, volume.geometry)
    return (volume, annotation) if case.tile is None else _cropped(volume, annotation, case.tile)


def _cropped(volume: Volume, annotation: Annotation, tile: tuple[tuple[int, int], ...]) -> tuple[Volume, Annotation]:
    """One part of an image with what is known of it; a label of the whole says nothing of a part, unless absent."""
    edges = [(n * k // count, n * (k + 1) // count) for n, (k, count) in zip(volume.geometry.shape, tile, strict=True)]
    start, size = tuple(low for low, _ in edges), tuple(high - low for low, high in edges)
    return volume.crop(start, size), annotation.cropped(start, size)


def _read_marks(case: Case, geometry: Geometry) -> Annotation:
    marks = case.marks
    boxes, box_classes = _boxes(case, geometry)
    return Annotation(
        mask=None if marks.mask is None else _mask(marks, geometry),
        boxes=boxes,
        box_classes=box_classes,
        region=None if marks.region is None else _region(marks.region, geometry),
        label=None if marks.label is None else np.asarray(marks.label, np.float32),
    )


def _boxes(case: Case, geometry: Geometry) -> tuple[np.ndarray | None, np.ndarray | None]:
    marks, dims = case.marks, geometry.dims
    if marks.boxes is None and marks.spheres is None:
        return None, None
    boxes = np.asarray(marks.boxes or (), np.float32).reshape(-1, 2 * dims)
    spheres = np.asarray(marks.spheres or (), float).reshape(-1, dims + 1)
    if not (np.isfinite(boxes).all() and np.isfinite(spheres).all()):
        msg = f"{case.images[0]}: a box of case '{case.id}' is not finite; correct its coordinates or leave it out"
        raise DataError(msg)
    centre, radius = geometry.world_to_edges(spheres[:, :dims]), spheres[:, dims:] / 2 / geometry.spacing_mm
    balls = np.concatenate([centre - radius, centre + radius], axis=1).astype(np.float32)
    return np.concatenate([boxes, balls]), np.asarray(marks.box_classes + marks.sphere_classes, np.int64)


def _mask(marks: Marks, geometry: Geometry) -> np.ndarray:
    if marks.rois is None:
        return _remap(read_mask(marks.mask, like=geometry), marks)
    from cphloc.data.rtstruct import rasterize, read_contours

    contours, mask = read_contours(marks.mask), np.zeros(geometry.shape, np.uint8)
    for pattern, class_id in marks.rois.items():
        for name in fnmatch.filter(contours, pattern):
            mask[rasterize(contours[name], geometry) > 0] = class_id
    if not any(fnmatch.filter(contours, pattern) for pattern in marks.rois):
        msg = f"{marks.mask}: has no region named {', '.join(marks.rois)}, only {', '.join(contours)}; correct `rois`"
        raise DataError(msg)
    return mask


def _remap(mask: np.ndarray, marks: Marks) -> np.ndarray:
    if marks.mask_classes is None:
        return mask
    table = np.full(256, IGNORE, np.int64)
    table[0] = 0
    for value, class_id in marks.mask_classes.items():
        table[value] = class_id
    unknown = sorted(set(np.unique(mask).tolist()) - set(marks.mask_classes) - {0, IGNORE})
    if unknown:
        msg = f"{marks.mask}: holds value {unknown[0]}, which is no declared class; declare it in `classes` or remap it"
        raise DataError(msg)
    return table[mask].astype(np.uint8)


def _region(path: Path, geometry: Geometry) -> np.ndarray:
    values = read_mask(path, like=geometry).astype(np.float32)
    top = float(values.max(initial=0.0))
    return values / 255.0 if top > 1 else values


def one_hot(class_ids: tuple[int, ...], classes: int) -> tuple[float, ...]:
    """Label entries of the ``class_ids`` that are present; every other class is absent.

    >>> one_hot((2,), classes=3)
    (0.0, 1.0, 0.0)
    """
    return tuple(float(c in class_ids) for c in range(1, classes + 1))
