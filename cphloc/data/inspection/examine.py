"""Read one case and note its facts and what is suspicious about it alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from cphloc.data.case import Case, checked, read_case
from cphloc.data.inspection.findings import WEIGHTS, Finding
from cphloc.data.inspection.signature import Signature
from cphloc.data.inspection.thumbnail import thumbnail
from cphloc.errors import InputError, counted
from cphloc.structures.annotation import IGNORE, Annotation
from cphloc.structures.fingerprint import percentiles_of
from cphloc.structures.rung import Rung
from cphloc.structures.split import Split
from cphloc.structures.units import UNITS, ScaledUnit, implausible, impossible
from cphloc.structures.volume import Volume, reoriented

_SAME_BOX = 0.95
"""IoU from which two boxes of a class are taken for one object, annotated twice."""
_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))
"""Letters for the two directions along the world's axes x, y and z (LPS)."""


@dataclass(frozen=True)
class Image:
    """What the image of a case is like, with axes in canonical order.

    Args:
        shape: voxels per axis.
        spacing_mm: voxel size, in ``unit``.
        unit: ``mm`` or ``px``.
        orientation: letters of the directions in which the stored axes grow, such as ``SPL``.
        modality: DICOM modality, or ``None``.
        scan_patient: patient that the file states, or ``None``.
        stated_unit: unit of the values that the file states, or ``None``.
        ranges: lowest and highest value of each channel.
        percentiles: 0.5th, 50th and 99.5th percentile of each channel.
        digest: SHA-256 of the values.
        signature: of the first channel.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    unit: str
    orientation: str
    modality: str | None
    scan_patient: str | None
    stated_unit: str | None
    ranges: tuple[tuple[float, float], ...]
    percentiles: tuple[tuple[float, float, float], ...]
    digest: str
    signature: Signature


@dataclass(frozen=True)
class Objects:
    """What is annotated in a case, by class number.

    Args:
        rungs: rungs that are annotated, weakest first; not those that follow from a stronger one.
        known: class numbers that were looked for in mask or boxes.
        voxels: voxels of each class that has a mask and is known.
        pieces: connected components of the mask of each of these classes, under full connectivity.
        boxes: number of boxes of each class.
        extents: ``(n, D)`` sizes of the objects in voxels, canonical axis order.
        contacts: pairs of classes that touch each other.
        label: class number -> whether it is stated to be present; without unknown classes.
        digest: hash of the annotation.
    """

    rungs: tuple[Rung, ...]
    known: frozenset[int]
    voxels: Mapping[int, int]
    pieces: Mapping[int, int]
    boxes: Mapping[int, int]
    extents: np.ndarray
    contacts: frozenset[tuple[int, int]]
    label: Mapping[int, bool]
    digest: str


@dataclass
class Examined:
    """A case with its facts; ``image`` and ``objects`` are ``None`` where it cannot be read.

    Args:
        case: the case.
        split: its split.
        image: facts of the image.
        objects: facts of the annotation.
        thumbnail: JPEG file; empty where the case cannot be read.
        findings: what is suspicious.
    """

    case: Case
    split: Split
    image: Image | None = None
    objects: Objects | None = None
    thumbnail: bytes = b""
    findings: list[Finding] = field(default_factory=list)

    @property
    def suspicion(self) -> float:
        """Sum of the weights of the kinds of findings."""
        return sum(WEIGHTS[kind] for kind in {finding.kind for finding in self.findings})


def examine(
    case: Case, split: Split, classes: Mapping[int, str], dims: int, units: Sequence[ScaledUnit | None]
) -> Examined:
    """Read a case; one that cannot be read has that as its only finding.

    Args:
        case: the case.
        split: its split.
        classes: number 1..K -> name.
        dims: number of axes of the images of the data set.
        units: unit of each channel, ``None`` where it is arbitrary; their number is that of the channels.
    """
    try:
        volume, given = read_case(case, dims)
        if len(volume.array) not in (1, len(units)):
            text = f"has {len(volume.array)} channels, and the data set has {len(units)}; convert it"
            return Examined(case, split, findings=[Finding("unreadable", text)])
        whole = checked(case, given, volume.geometry.shape, len(classes))
    except (InputError, OSError, ValueError, MemoryError) as error:
        return Examined(case, split, findings=[Finding("unreadable", str(error) or type(error).__name__)])
    upright = volume.canonical()
    order = volume.geometry.canonical()
    mask = None if whole.mask is None or given.mask is None else reoriented(whole.mask, *order)
    boxes, box_classes = whole.objects if whole.boxes is not None else (np.zeros((0, 2 * dims)), np.zeros(0, int))
    boxes = volume.geometry.canonical_boxes(boxes)
    image = _image(upright, volume)
    objects = _objects(given, whole, mask, boxes, box_classes, len(classes))
    findings = [*_of_image(image, units), *_of_boxes(given, volume.geometry.shape), *_of_label(objects, classes)]
    return Examined(case, split, image, objects, thumbnail(upright, mask, boxes, box_classes), findings)


def _image(upright: Volume, stored: Volume) -> Image:
    grid = upright.geometry
    direction = stored.geometry.direction
    axes = [int(np.abs(direction[:, k]).argmax()) for k in range(grid.dims)]
    letters = "".join(_LETTERS[axis][int(direction[axis, k] > 0)] for k, axis in enumerate(axes))
    return Image(
        grid.shape,
        grid.spacing_mm,
        grid.unit,
        letters,
        stored.modality,
        stored.scan.patient,
        stored.scan.unit,
        tuple((float(c.min()), float(c.max())) for c in upright.array),
        tuple(map(percentiles_of, upright.array)),
        hashlib.sha256(np.ascontiguousarray(upright.array).tobytes()).hexdigest(),
        Signature.of(upright.array[0] if len(upright.array) != 3 else upright.array.mean(axis=0)),
    )


def _objects(
    given: Annotation, whole: Annotation, mask: np.ndarray | None, boxes: np.ndarray, numbers: np.ndarray, classes: int
) -> Objects:
    stated = {Rung.LABEL: given.label, Rung.REGION: given.region, Rung.BOXES: given.boxes, Rung.MASK: given.mask}
    looked_for = whole.mask_known if mask is not None else whole.boxes_known
    known = frozenset() if looked_for is None else frozenset((1 + np.flatnonzero(looked_for)).tolist())
    dims = len(whole.mask.shape) if whole.mask is not None else boxes.shape[1] // 2
    voxels, pieces, extents = {}, {}, [boxes[:, dims:] - boxes[:, :dims]] if mask is None else []
    if mask is not None:
        for number in sorted(known):
            voxels[number], found = _pieces(mask, number)
            pieces[number] = len(found)
            extents += [found] if len(found) else []
    label = {} if given.label is None else {k: bool(v) for k, v in enumerate(given.label, start=1) if v == v}
    return Objects(
        tuple(rung for rung, part in stated.items() if part is not None),
        known,
        voxels,
        pieces,
        {number: int((numbers == number).sum()) for number in range(1, classes + 1)} if whole.boxes is not None else {},
        np.concatenate(extents) if extents else np.zeros((0, dims)),
        frozenset() if mask is None else frozenset(_contacts(mask)) | _merged(given, pieces, numbers),
        label,
        given.digest,
    )


def _pieces(mask: np.ndarray, number: int) -> tuple[int, np.ndarray]:
    """Number of voxels of a class, and the extents ``(n, D)`` of its connected components."""
    from scipy import ndimage

    inside = mask == number
    whole = ndimage.find_objects(inside.astype(np.uint8))
    if not whole:
        return 0, np.zeros((0, mask.ndim))
    inside = inside[whole[0]]
    numbered = cast("tuple[np.ndarray, int]", ndimage.label(inside, np.ones((3,) * mask.ndim)))[0]
    sizes = [[edge.stop - edge.start for edge in box] for box in ndimage.find_objects(numbered)]
    return int(inside.sum()), np.asarray(sizes, float)


def _contacts(mask: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield pairs of classes, the lower first, with voxels that share a face."""
    for axis in range(mask.ndim):
        first, second = mask.take(range(mask.shape[axis] - 1), axis), mask.take(range(1, mask.shape[axis]), axis)
        meet = (first != second) & (first > 0) & (second > 0) & (first != IGNORE) & (second != IGNORE)
        pairs = np.unique(np.sort(np.stack([first[meet], second[meet]], 1), axis=1), axis=0)
        yield from ((int(a), int(b)) for a, b in pairs)


def _merged(given: Annotation, pieces: Mapping[int, int], numbers: np.ndarray) -> frozenset[tuple[int, int]]:
    """Classes, as pairs with themselves, that have more objects than pieces in the mask: some touch each other."""
    if given.boxes is None:
        return frozenset()
    return frozenset((k, k) for k, n in pieces.items() if 0 < n < int((numbers == k).sum()))


def _of_image(image: Image, units: Sequence[ScaledUnit | None]) -> Iterator[Finding]:
    for values, (low, high), unit in zip(image.percentiles, image.ranges, units, strict=False):
        stated = image.stated_unit
        of_file = ScaledUnit(stated) if stated is not None and stated in UNITS else None
        if low == high:
            yield Finding("constant image", f"every voxel has the value {low:.4g}")
        elif (taken := unit or of_file) is not None:
            if (why := impossible((low, high), taken)) is not None:
                yield Finding("impossible values", why)
            elif (why := implausible(values, taken)) is not None:
                yield Finding("implausible values", why)


def _of_boxes(given: Annotation, shape: Sequence[int]) -> Iterator[Finding]:
    """What is wrong with boxes as they are stated."""
    boxes, numbers = given.objects
    if not len(boxes):
        return
    dims = len(shape)
    outside = ((boxes[:, :dims] < -0.5) | (boxes[:, dims:] > np.asarray(shape) + 0.5)).any(axis=1)
    if outside.any():
        yield Finding("box", f"{_number_of(int(outside.sum()), 'box')} outside the image, in whole or in part")
    thin = (boxes[:, dims:] - boxes[:, :dims] < 1).any(axis=1)
    if thin.any():
        yield Finding("box", f"{_number_of(int(thin.sum()), 'box')} thinner than a voxel")
    if (twice := _twice(boxes, numbers)) > 0:
        yield Finding("box", f"{_number_of(twice, 'pair')} of boxes of one class almost equal (IoU above {_SAME_BOX})")


def _twice(boxes: np.ndarray, numbers: np.ndarray) -> int:
    dims = boxes.shape[1] // 2
    low = np.maximum(boxes[:, None, :dims], boxes[None, :, :dims])
    high = np.minimum(boxes[:, None, dims:], boxes[None, :, dims:])
    shared = np.clip(high - low, 0, None).prod(-1)
    size = np.diagonal(shared)
    same = shared > _SAME_BOX * np.maximum(size[:, None] + size[None] - shared, 1e-9)
    return int(np.triu(same & (numbers[:, None] == numbers[None]), 1).sum())


def _of_label(objects: Objects, classes: Mapping[int, str]) -> Iterator[Finding]:
    """Where the stated label and the mask or boxes disagree."""
    drawn = objects.voxels or {k: n for k, n in objects.boxes.items() if k in objects.known}
    what = "mask" if objects.voxels else "boxes"
    for number, present in objects.label.items():
        if number in drawn and present != bool(drawn[number]):
            stated = "present" if present else "absent"
            has = "none of it" if present else "it"
            text = f"the label states {classes[number]} {stated}, and the {what} show {has}"
            yield Finding("label and mask disagree", text.replace("mask show", "mask shows"))


def _number_of(count: int, what: str) -> str:
    """``1 box lies``, ``2 boxes lie``.

    >>> _number_of(1, "box"), _number_of(2, "pair")
    ('1 box is', '2 pairs are')
    """
    return f"{counted(count, what)} {'is' if count == 1 else 'are'}"
