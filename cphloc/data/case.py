"""One case of a data set: where its images are and what is known about it."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from cphloc.data.io.read import read_mask, read_volume
from cphloc.errors import DataError
from cphloc.structures.annotation import IGNORE, Annotation, Rung, clip_boxes, of_instances
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume


@dataclass(frozen=True)
class Marks:
    """How a case is annotated, as paths and numbers; nothing is read until `read_case`. Absent parts are ``None``.

    Args:
        mask: mask image on the grid of the case, or a DICOM RTSTRUCT or SEG where ``rois`` is given.
        mask_classes: value in the mask file -> class 0..K or 255 (not annotated); ``None`` keeps the values.
        rois: name of a region in the RTSTRUCT or segment in the SEG, with wildcards -> class 1..K; later ones on top.
        instances: file whose values number objects -> class 1..K of all of them, or of each by its value. It states
            a mask and a box for each object; later files lie on top.
        boxes: voxel edges ``[lo..., hi...]`` in array-axis order of the file, with ``box_classes`` 1..K.
        spheres: world ``(x, y, z, diameter)`` in LPS millimetres (LUNA16), each of ``sphere_classes`` 1..K.
        region: image with values in [0, 1] or 0/255 of where the finding may lie.
        label: K entries: 1 present, 0 absent, NaN unknown.
        problem: why what is annotated cannot be used; `read_case` raises it, so such a case is listed or skipped with
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
    problem: str | None = None

    @property
    def rung(self) -> Rung | None:
        """The strongest rung annotated, ``None`` where nothing is; no file is read."""
        stated = (
            (self.mask or self.instances, Rung.MASK),
            (self.boxes if self.spheres is None else self.spheres, Rung.BOXES),
            (self.region, Rung.REGION),
            (self.label, Rung.LABEL),
        )
        return next((rung for value, rung in stated if value is not None), None)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold annotations."""
        return tuple(p for p in (self.mask, self.region, *(self.instances or ())) if p is not None)


@dataclass(frozen=True)
class Case:
    """One image of a data set.

    Args:
        id: unique in its data set; part of the fingerprint.
        patient: cases of one patient (or one cluster of near-duplicates) share it and never fall into two splits.
        images: one file per channel, or one file that holds all channels.
        marks: what is annotated.
        spacing_mm: voxel size for files that state none, array order.
        tile: ``(number, of how many)`` per axis where the case is one part of the image (`cphloc.data.pipeline.tiles`).
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


def marks_or_problem(make: Callable[[], Marks]) -> Marks:
    """The marks that ``make`` finds, or its `DataError` as their problem."""
    try:
        return make()
    except DataError as error:
        return Marks(problem=str(error))


def read_case(case: Case, dims: int | None = None) -> tuple[Volume, Annotation]:
    """Read the image and the annotation of a case, both in the file's own frame.

    Args:
        case: what to read.
        dims: 2 or 3 where the data set states it; otherwise the file decides.

    Raises:
        DataError: a file cannot be read, channels lie on different grids, or the annotation does not fit the image.
    """
    if case.marks.problem is not None:
        raise DataError(case.marks.problem)
    paths = case.images[0] if len(case.images) == 1 else list(case.images)
    volume = read_volume(paths, spacing_mm=case.spacing_mm, dims=dims)
    annotation = _read_marks(case, volume.geometry)
    return (volume, annotation) if case.tile is None else _cropped(volume, annotation, case.tile)


def checked(case: Case, given: Annotation, shape: tuple[int, ...], classes: int) -> Annotation:
    """`Annotation.completed`, whose errors name the files of the case.

    Raises:
        DataError: the annotation does not fit the image of ``shape`` or the ``classes``.
    """
    try:
        return given.completed(shape, classes)
    except DataError as error:
        msg = f"{', '.join(map(str, case.marks.files or case.images))}: {error}"
        raise DataError(msg) from error


def _cropped(volume: Volume, annotation: Annotation, tile: tuple[tuple[int, int], ...]) -> tuple[Volume, Annotation]:
    """One part of an image with what is known of it; a label of the whole says nothing of a part, unless absent."""
    edges = [(n * k // count, n * (k + 1) // count) for n, (k, count) in zip(volume.geometry.shape, tile, strict=True)]
    start, size = tuple(low for low, _ in edges), tuple(high - low for low, high in edges)
    return volume.crop(start, size), annotation.cropped(start, size)


def _read_marks(case: Case, geometry: Geometry) -> Annotation:
    marks = case.marks
    if marks.instances is not None:
        stated = _instances(marks.instances, geometry)
    else:
        mask = None if marks.mask is None else _mask(marks, geometry)
        stated = Annotation(mask, *_boxes(case, geometry))
    return replace(
        stated,
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
    boxes = np.concatenate([boxes, balls])
    _, kept = clip_boxes(boxes, geometry.shape)
    if not kept.all():
        lost = boxes[np.argmin(kept)].tolist()
        msg = (
            f"{case.images[0]}: box {lost} covers nothing of the image of {geometry.shape} voxels; it must be "
            "[lo..., hi...] in array order, as are points in LPS mm once in voxels"
        )
        raise DataError(msg)
    return boxes, np.asarray(marks.box_classes + marks.sphere_classes, np.int64)


def _instances(files: Mapping[Path, int | Mapping[int, int]], geometry: Geometry) -> Annotation:
    """Class mask and boxes of all objects that instance masks number."""
    mask, boxes, box_classes = np.zeros(geometry.shape, np.uint8), [], []
    for path, classes in files.items():
        instances = read_mask(path, like=geometry)
        try:
            found = of_instances(instances, classes)
        except DataError as error:
            msg = f"{path}: {error}"
            raise DataError(msg) from error
        np.copyto(mask, found.mask, where=found.mask > 0)
        boxes.append(found.boxes)
        box_classes.append(found.box_classes)
    return Annotation(mask, np.concatenate(boxes), np.concatenate(box_classes))


def _mask(marks: Marks, geometry: Geometry) -> np.ndarray:
    if marks.rois is None:
        return _remap(read_mask(marks.mask, like=geometry), marks)
    regions, mask = _regions(marks.mask, geometry), np.zeros(geometry.shape, np.uint8)
    for pattern, class_id in marks.rois.items():
        for name in fnmatch.filter(regions, pattern):
            mask[regions[name]() > 0] = class_id
    if not any(fnmatch.filter(regions, pattern) for pattern in marks.rois):
        msg = f"{marks.mask}: has no region named {', '.join(marks.rois)}, only {', '.join(regions)}; correct `rois`"
        raise DataError(msg)
    return mask


def _regions(path: Path, geometry: Geometry) -> dict[str, Callable[[], np.ndarray]]:
    """What draws each named region of an RTSTRUCT or a DICOM SEG."""
    from cphloc.data.io.read_dicom_seg import is_seg, read_segments
    from cphloc.data.io.rtstruct import rasterize, read_contours

    if is_seg(path):
        return {name: partial(np.asarray, mask) for name, mask in read_segments(path, geometry).items()}
    return {name: partial(rasterize, contours, geometry) for name, contours in read_contours(path).items()}


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
