"""One case of a data set: its image files and where its annotation is stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cphloc.data.annotation_source import AnnotationSource
from cphloc.data.io.formats import split_series
from cphloc.data.io.notice import notice
from cphloc.data.io.read import read_volume
from cphloc.data.read_annotation import read_annotation
from cphloc.errors import DataError
from cphloc.structures.annotation import Annotation
from cphloc.structures.rung import Rung
from cphloc.structures.units import ScaledUnit
from cphloc.structures.volume import Volume
from cphloc.structures.weakened import weakened


@dataclass(frozen=True, slots=True)
class Case:
    """One image of a data set and where its annotation is stored.

    Args:
        id: identifier, unique in the data set; part of the fingerprint.
        patient: identifier of the patient (or cluster of near-duplicates); its cases are all in one split.
        images: one file, DICOM folder or ``folder#SeriesInstanceUID`` per channel, or one that holds all channels.
        annotation: where the annotation is stored.
        spacing_mm: voxel size in array axis order, for files that store none.
        units: unit to which the values of each file are converted where the file states one; empty: as they are.
        given_units: unit of the values of each file that states none, where it is not that of ``units``.
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
    given_units: tuple[ScaledUnit | None, ...] = ()

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
    units = case.units[: len(case.images)]
    volume = read_volume(paths, spacing_mm=case.spacing_mm, dims=dims, units=units, given=case.given_units)
    for note in volume.notes:
        folder, _, remark = note.partition(": ")
        notice(folder, remark)
    annotation = read_annotation(case.annotation, case.images, volume.geometry)
    if (limit := case.annotation.limit) is not None:
        classes = len(case.annotation.label or case.annotation.known or ())
        annotation = weakened(annotation, volume.geometry, classes, limit)
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


def one_hot(class_numbers: Collection[int], classes: int) -> tuple[float, ...]:
    """Encode the classes present in an image as a multi-hot vector over classes 1..K.

    Args:
        class_numbers: numbers of the classes that are present.
        classes: number of classes K.

    >>> one_hot((2,), classes=3)
    (0.0, 1.0, 0.0)
    """
    return tuple(float(number in class_numbers) for number in range(1, classes + 1))
