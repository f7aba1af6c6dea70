"""One case of a data set: its image files and where its annotation is stored."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from cphloc.data.io.formats import split_series
from cphloc.data.io.read import read_mask, read_volume
from cphloc.errors import DataError
from cphloc.structures.annotation import IGNORE, Annotation, clip_boxes, of_instances
from cphloc.structures.geometry import Geometry
from cphloc.structures.rung import Rung
from cphloc.structures.units import ScaledUnit
from cphloc.structures.volume import Volume


@dataclass(frozen=True)
class AnnotationSource:
    """Sources of the annotation of a case: files, and values stored outside files. Missing parts are ``None``.

    Files are read by `read_case`. Class numbers are those of `cphloc.data.dataset.Dataset.classes`, 1..K.

    Args:
        mask: label mask on the grid of the image, or a DICOM RTSTRUCT or SEG where ``rois`` is given.
        mask_classes: value in the mask file -> class number, 0 for background or 255 for not annotated; ``None``
            where the file holds class numbers.
        rois: name of a region in the RTSTRUCT or segment in the SEG, with wildcards (``*``, ``?``) -> class number;
            where regions overlap, the last one is used.
        instances: instance mask, whose values number the objects -> class number of all its objects, or of each object
            by its value. It gives a mask and a box for each object; where files overlap, the last one is used.
        boxes: voxel edges ``[lo..., hi...]`` in array-axis order of the file.
        box_classes: class number of each box.
        spheres: ``(x, y, z, diameter)`` in millimetres, LPS coordinates, as LUNA16 annotates nodules.
        sphere_classes: class number of each sphere.
        region: image of where the finding may be located, with values in [0, 1] or 0/255.
        label: for each class 1..K: 1 present, 0 absent, NaN unknown.
        known: for each class 1..K, whether it was looked for when the mask and the boxes were drawn; ``None`` if all
            were. Where one was not, the mask and the boxes leave unknown whether it is there.
        problem: why the annotation cannot be used. `read_case` raises it, so that the case is reported together with
            all others that cannot be used.
    """

    mask: Path | None = None
    mask_classes: Mapping[int, int] | None = None
    rois: Mapping[str, int] | None = None
    instances: Mapping[Path, int | Mapping[int, int]] | None = None
    boxes: tuple[tuple[float, ...], ...] | None = None
    box_classes: tuple[int, ...] = ()
    spheres: tuple[tuple[float, ...], ...] | None = None
    sphere_classes: tuple[int, ...] = ()
    region: Path | None = None
    label: tuple[float, ...] | None = None
    known: tuple[bool, ...] | None = None
    problem: str | None = None

    @property
    def rung(self) -> Rung | None:
        """Strongest rung (mask > boxes > region > label) of the annotation; ``None`` without annotation."""
        stated = (
            (self.mask or self.instances, Rung.MASK),
            (self.boxes if self.spheres is None else self.spheres, Rung.BOXES),
            (self.region, Rung.REGION),
            (self.label, Rung.LABEL),
        )
        return next((rung for value, rung in stated if value is not None), None)

    @property
    def files(self) -> tuple[Path, ...]:
        """Annotation files."""
        return tuple(p for p in (self.mask, self.region, *(self.instances or ())) if p is not None)


@dataclass(frozen=True)
class Case:
    """One image of a data set and where its annotation is stored.

    Args:
        id: identifier, unique in the data set; part of the fingerprint.
        patient: identifier of the patient (or cluster of near-duplicates); its cases are all in one split.
        images: one file, DICOM folder or ``folder#SeriesInstanceUID`` per channel, or one that holds all channels.
        annotation: where the annotation is stored.
        spacing_mm: voxel size in array axis order, for files that store none.
        units: unit to which the values of each file are converted where the file states one; empty: as they are.
        tile: ``(index of the part, number of parts)`` per axis, where the case is one part of the image; see
            `cphloc.data.pipeline.tiles`.
    """

    id: str
    patient: str
    images: tuple[Path, ...]
    annotation: AnnotationSource = field(default_factory=AnnotationSource)
    spacing_mm: tuple[float, ...] | None = None
    tile: tuple[tuple[int, int], ...] | None = None
    units: tuple[ScaledUnit | None, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files and DICOM folders of the case, images first, without the UID of a series."""
        return tuple(split_series(path)[0] for path in self.images) + self.annotation.files

    @property
    def marks(self) -> AnnotationSource:
        """Earlier name of ``annotation``."""
        return self.annotation


def strongest_rung(cases: Iterable[Case]) -> Rung | None:
    """Return the strongest rung of any of the cases; ``None`` if none is annotated."""
    return max((case.annotation.rung for case in cases if case.annotation.rung is not None), default=None)


def annotation_or_problem(find: Callable[[], AnnotationSource]) -> AnnotationSource:
    """Return ``find()``, or an annotation source with ``problem`` set if it raises a `DataError`."""
    try:
        return find()
    except DataError as error:
        return AnnotationSource(problem=str(error))


def read_case(case: Case, dims: int | None = None) -> tuple[Volume, Annotation]:
    """Read the image and the annotation of a case, both on the grid of the image file.

    Args:
        case: the case to read.
        dims: required number of spatial axes, 2 or 3; ``None`` accepts both.

    Raises:
        DataError: a file cannot be read, channels share no coordinates or have another unit, or the annotation does
            not match the image.
    """
    if case.annotation.problem is not None:
        raise DataError(case.annotation.problem)
    paths = case.images[0] if len(case.images) == 1 else list(case.images)
    volume = read_volume(paths, spacing_mm=case.spacing_mm, dims=dims, units=case.units[: len(case.images)])
    annotation = _read_annotation(case, volume.geometry)
    return (volume, annotation) if case.tile is None else _tile_of(volume, annotation, case.tile)


def checked(case: Case, given: Annotation, shape: tuple[int, ...], classes: int) -> Annotation:
    """Validate an annotation and derive its weaker rungs with `Annotation.completed`; errors contain the file names.

    Args:
        case: the case that the annotation was read from.
        given: the annotation.
        shape: ``(*S)`` of the image.
        classes: number of foreground classes K.

    Raises:
        DataError: the annotation does not match the image or the classes.
    """
    try:
        return given.completed(shape, classes)
    except DataError as error:
        msg = f"{', '.join(map(str, case.annotation.files or case.images))}: {error}"
        raise DataError(msg) from error


def _tile_of(volume: Volume, annotation: Annotation, tile: tuple[tuple[int, int], ...]) -> tuple[Volume, Annotation]:
    """Crop an image and its annotation to one tile; tiles are counted along the canonical axes of the patient."""
    start, stop = [0] * volume.dims, list(volume.geometry.shape)
    order, flip = volume.geometry.canonical()
    for place, (axis, (k, count)) in enumerate(zip(order, tile, strict=True)):
        n = volume.geometry.shape[axis]
        low, high = n * k // count, n * (k + 1) // count
        start[axis], stop[axis] = (n - high, n - low) if place in flip else (low, high)
    first, size = tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True))
    return volume.crop(first, size), annotation.cropped(first, size)


def _read_annotation(case: Case, geometry: Geometry) -> Annotation:
    source = case.annotation
    if source.instances is not None:
        annotation = _read_instances(source.instances, geometry)
    else:
        mask = None if source.mask is None else _read_mask(source.mask, source, geometry)
        annotation = Annotation(mask, *_boxes(case, geometry))
    known = None if source.known is None else np.asarray(source.known, bool)
    if known is not None and source.label is not None:
        known = known | (np.asarray(source.label) == 0)
    return replace(
        annotation,
        mask_known=None if annotation.mask is None else known,
        boxes_known=None if annotation.boxes is None else known,
        region=None if source.region is None else _read_region(source.region, geometry),
        label=None if source.label is None else np.asarray(source.label, np.float32),
    )


def _boxes(case: Case, geometry: Geometry) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Boxes ``(n, 2 D)`` from the boxes and spheres of a case, and their classes ``(n,)``."""
    source, dims = case.annotation, geometry.dims
    if source.boxes is None and source.spheres is None:
        return None, None
    boxes = np.asarray(source.boxes or (), np.float32).reshape(-1, 2 * dims)
    spheres = np.asarray(source.spheres or (), float).reshape(-1, dims + 1)
    if not (np.isfinite(boxes).all() and np.isfinite(spheres).all()):
        msg = f"{case.images[0]}: a box of case '{case.id}' is not finite; correct its coordinates or leave it out"
        raise DataError(msg)
    centre, radius = geometry.world_to_edges(spheres[:, :dims]), spheres[:, dims:] / 2 / geometry.spacing_mm
    around_spheres = np.concatenate([centre - radius, centre + radius], axis=1).astype(np.float32)
    boxes = np.concatenate([boxes, around_spheres])
    _, kept = clip_boxes(boxes, geometry.shape)
    if not kept.all():
        outside = boxes[np.argmin(kept)].tolist()
        msg = (
            f"{case.images[0]}: box {outside} covers nothing of the image of {geometry.shape} voxels; it must be "
            "[lo..., hi...] in array order, as are points in LPS mm once in voxels"
        )
        raise DataError(msg)
    return boxes, np.asarray(source.box_classes + source.sphere_classes, np.int64)


def _read_instances(files: Mapping[Path, int | Mapping[int, int]], geometry: Geometry) -> Annotation:
    """Class mask and boxes of all objects in the instance masks."""
    mask, boxes, box_classes = np.zeros(geometry.shape, np.uint8), [], []
    for path, classes in files.items():
        instances = read_mask(path, like=geometry)
        try:
            objects = of_instances(instances, classes)
        except DataError as error:
            msg = f"{path}: {error}"
            raise DataError(msg) from error
        if objects.mask is not None:
            np.copyto(mask, objects.mask, where=objects.mask > 0)
        boxes.append(objects.boxes)
        box_classes.append(objects.box_classes)
    return Annotation(mask, np.concatenate(boxes), np.concatenate(box_classes))


def _read_mask(path: Path, source: AnnotationSource, geometry: Geometry) -> np.ndarray:
    """Class mask ``(*S)`` uint8 from a label mask, an RTSTRUCT or a DICOM SEG."""
    if source.rois is None:
        return _class_mask(read_mask(path, like=geometry), path, source.mask_classes)
    regions, mask = _regions(path, geometry), np.zeros(geometry.shape, np.uint8)
    for pattern, class_number in source.rois.items():
        for name in fnmatch.filter(regions, pattern):
            mask[regions[name]() > 0] = class_number
    if not any(fnmatch.filter(regions, pattern) for pattern in source.rois):
        msg = f"{path}: has no region named {', '.join(source.rois)}, only {', '.join(regions)}; correct `rois`"
        raise DataError(msg)
    return mask


def _regions(path: Path, geometry: Geometry) -> dict[str, Callable[[], np.ndarray]]:
    """Map each region name of an RTSTRUCT or DICOM SEG to a function that rasterizes it."""
    from cphloc.data.io.read_dicom_seg import is_seg, read_segments
    from cphloc.data.io.rtstruct import rasterize, read_contours

    if is_seg(path):
        return {name: partial(np.asarray, mask) for name, mask in read_segments(path, geometry).items()}
    return {name: partial(rasterize, contours, geometry) for name, contours in read_contours(path).items()}


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


def _read_region(path: Path, geometry: Geometry) -> np.ndarray:
    """Region ``(*S)`` float32 in [0, 1]; a file with larger values is divided by 255."""
    values = read_mask(path, like=geometry).astype(np.float32)
    top = float(values.max(initial=0.0))
    return values / 255.0 if top > 1 else values


def one_hot(class_numbers: Collection[int], classes: int) -> tuple[float, ...]:
    """Encode the classes present in an image as a multi-hot vector over classes 1..K.

    Args:
        class_numbers: numbers of the classes that are present.
        classes: number of classes K.

    >>> one_hot((2,), classes=3)
    (0.0, 1.0, 0.0)
    """
    return tuple(float(number in class_numbers) for number in range(1, classes + 1))
