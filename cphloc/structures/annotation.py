"""The supervision ladder: image label < coarse region < boxes < mask.

A stronger annotation always gives the weaker ones. The reverse holds only for absence: where a class is known to be
absent, there are no boxes and no voxels of it. A case carries whatever it has; `Annotation.completed` derives the rest,
here and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cphloc.errors import DataError, InputError
from cphloc.structures.boxes import IGNORE, boxes_of, clip_boxes, region_of
from cphloc.structures.rung import Rung


@dataclass(frozen=True)
class Annotation:
    """Annotations of one image; a field is ``None`` where nothing of that kind was annotated.

    ``None`` and empty differ: ``boxes`` of shape ``(0, 2 D)`` means that there is no object, ``None`` that boxes were
    not annotated.

    Args:
        mask: ``(*S)`` uint8; 0 background, 1..K the classes, `IGNORE` not annotated.
        boxes: ``(n, 2 D)`` float32 edge coordinates ``[lo..., hi...]`` in array-axis order, half-open.
        box_classes: ``(n,)`` int64, 1..K; required with ``boxes``. A negative number -k marks a box in which objects of
            class k are not annotated one by one, such as a crowd or an object that is difficult to see: neither losses
            nor metrics count what is in it.
        region: ``(*S)`` float32 in [0, 1]; where the finding may lie: a side, a lobe, or the union of the boxes.
        label: ``(K,)`` float32, 1 where the class is present, NaN where that class is unknown.
        mask_known: ``(K,)`` bool, the classes that were looked for when the mask was drawn; ``None`` for all. Voxels of
            other classes are unknown, not background.
        boxes_known: ``(K,)`` bool, the classes that were looked for when the boxes were drawn; ``None`` for all.
        instances: ``(*S)`` int32, for masks whose objects are told apart: number of the object of each voxel, 0 none.
        box_instances: ``(n,)`` int64, number of the object of each box in ``instances``; 0 where it has no voxel.
    """

    mask: np.ndarray | None = None
    boxes: np.ndarray | None = None
    box_classes: np.ndarray | None = None
    region: np.ndarray | None = None
    label: np.ndarray | None = None
    mask_known: np.ndarray | None = None
    boxes_known: np.ndarray | None = None
    instances: np.ndarray | None = None
    box_instances: np.ndarray | None = None

    @property
    def rung(self) -> Rung | None:
        """The strongest rung stated, or ``None`` for a case without any annotation."""
        stated = (
            (self.mask, Rung.MASK),
            (self.boxes, Rung.BOXES),
            (self.region, Rung.REGION),
            (self.label, Rung.LABEL),
        )
        return next((rung for value, rung in stated if value is not None), None)

    @property
    def digest(self) -> str:
        """Hash of the strongest annotation and the label, equal for equal annotations however they are stored."""
        stated = [self.mask, self.mask_known] if self.mask is not None else []
        stated += [] if self.instances is None else [self.instances]
        if not stated:
            stated = [self.region] if self.boxes is None else [self.boxes, self.box_classes, self.boxes_known]
        digest = hashlib.sha256()
        for array in (*stated, self.label):
            digest.update(b"none" if array is None else repr((array.shape, array.dtype.str)).encode())
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def completed(self, shape: tuple[int, ...], classes: int, up_to: Rung | None = Rung.MASK) -> Annotation:
        """Add everything that follows from the stated annotations, which stay.

        Every rung gives the weaker ones. A class that is absent, by the label or because boxes of the class were looked
        for and none was found, also gives the stronger ones: no voxel and no box. In the result, ``mask_known`` and
        ``boxes_known`` are given wherever there is a mask, or boxes; contours and boxes of other classes are removed.

        Args:
            shape: ``(*S)`` of the image; boxes are clipped to it.
            classes: number of foreground classes K.
            up_to: strongest rung that absence gives. Metrics take the strongest rung of the data set, so that a Dice is
                not computed where nothing was outlined in any image.

        Raises:
            DataError: a class outside 1..K, a box with ``hi < lo``, or a mask of another shape.

        >>> mask = np.zeros((4, 4), np.uint8)
        >>> mask[1:3, 2:4] = 1
        >>> Annotation(mask=mask).completed((4, 4), classes=1).boxes.tolist()
        [[1.0, 2.0, 3.0, 4.0]]
        >>> absent = Annotation(label=np.array([0.0, 1.0])).completed((4, 4), classes=2)
        >>> bool(absent.mask.any()), absent.mask_known.tolist()
        (False, [True, False])
        """
        _validate(self, shape, classes)
        boxes, boxes_known = self._with_boxes(shape, classes)
        region, label = self.region, self._with_label(boxes, boxes_known, classes)
        if region is None and boxes is not None and boxes_known.all():
            objects = boxes.boxes[boxes.classes > 0]
            region = region_of(objects, shape) if len(objects) or not len(boxes.boxes) else None
        if label is None and region is not None and classes == 1:
            label = np.array([float(region.any())], np.float32)
        absent = np.zeros(classes, bool) if label is None else label == 0
        mask, mask_known = _known_mask(self, classes)
        strongest = max(up_to or Rung.LABEL, self.rung or Rung.LABEL)
        if strongest >= Rung.BOXES:
            boxes_known = boxes_known | absent
        if strongest >= Rung.MASK:
            mask_known = mask_known | absent
        if mask is None and mask_known.any():
            mask = np.zeros(shape, np.uint8)
        if boxes is None and boxes_known.any():
            boxes = _Boxes(np.zeros((0, 2 * len(shape)), np.float32), np.zeros(0, np.int64), None)
        return Annotation(
            mask,
            None if boxes is None else boxes.boxes,
            None if boxes is None else boxes.classes,
            region,
            label,
            None if mask is None else mask_known,
            None if boxes is None else boxes_known,
            self.instances,
            None if boxes is None else boxes.instances,
        )

    def _with_boxes(self, shape: tuple[int, ...], classes: int) -> tuple[_Boxes | None, np.ndarray]:
        """Boxes of the known classes, from those stated, else from the mask, and which classes are known."""
        if self.boxes is not None and self.box_classes is not None:
            boxes, box_classes = self.boxes, self.box_classes
            known = _all_known(classes) if self.boxes_known is None else self.boxes_known
        elif self.mask is not None:
            mask, known = _known_mask(self, classes)
            boxes, box_classes = boxes_of(np.asarray(mask))
            if (self.mask == IGNORE).all():
                known = np.zeros(classes, bool)
        else:
            return None, np.zeros(classes, bool)
        boxes, kept = clip_boxes(boxes, shape)
        kept &= known[np.abs(box_classes) - 1]
        instances = None if self.boxes is None or self.box_instances is None else self.box_instances[kept]
        return _Boxes(boxes[kept], box_classes[kept], instances), known

    def _with_label(self, boxes: _Boxes | None, boxes_known: np.ndarray, classes: int) -> np.ndarray | None:
        """Label, as stated, else as it follows from the boxes."""
        if self.label is not None or boxes is None:
            return self.label
        present = np.isin(np.arange(1, classes + 1), boxes.classes).astype(np.float32)
        ignored = np.isin(np.arange(-1, -classes - 1, -1), boxes.classes)
        unseen = self.mask is not None and bool((self.mask == IGNORE).any())
        return np.where(boxes_known & ((present > 0) | ~(ignored | unseen)), present, np.float32(np.nan))

    @property
    def objects(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes ``(n, 2 D)`` and classes ``(n,)`` of the objects, without boxes to ignore; empty without annotation."""
        return self._chosen(ignored=False)

    @property
    def ignored(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes ``(n, 2 D)`` to ignore, and the classes ``(n,)`` 1..K for which they are; empty without annotation."""
        return self._chosen(ignored=True)

    @property
    def object_instances(self) -> np.ndarray:
        """Number in ``instances`` ``(n,)`` of each of the `objects`; 0 where they are not told apart."""
        if self.box_instances is None or self.box_classes is None:
            return np.zeros(len(self.objects[1]), np.int64)
        return self.box_instances[self.box_classes > 0]

    def _chosen(self, ignored: bool) -> tuple[np.ndarray, np.ndarray]:
        if self.boxes is None or self.box_classes is None:
            return np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
        chosen = (self.box_classes < 0) == ignored
        return self.boxes[chosen], np.abs(self.box_classes[chosen])

    def cropped(self, start: tuple[int, ...], size: tuple[int, ...]) -> Annotation:
        """Crop to the ``size`` voxels that begin at index ``start``.

        Boxes are clipped; those wholly outside are left out. A label holds for a part where it says that a class is
        absent; otherwise it becomes unknown.

        >>> Annotation(boxes=np.array([[0, 0, 4, 4]]), box_classes=np.array([1])).cropped((2, 2), (4, 4)).boxes.tolist()
        [[0.0, 0.0, 2.0, 2.0]]
        """
        inside = tuple(slice(low, low + n) for low, n in zip(start, size, strict=True))
        boxes, box_classes, box_instances = self.boxes, self.box_classes, self.box_instances
        if boxes is not None and box_classes is not None:
            boxes, kept = clip_boxes(boxes - np.asarray(start * 2, np.float32), size)
            boxes, box_classes = boxes[kept], box_classes[kept]
            box_instances = None if box_instances is None else box_instances[kept]
        return replace(
            self,
            mask=None if self.mask is None else self.mask[inside],
            boxes=boxes,
            box_classes=box_classes,
            region=None if self.region is None else self.region[inside],
            label=self.label_of_part(whole=False),
            instances=None if self.instances is None else self.instances[inside],
            box_instances=box_instances,
        )

    def label_of_part(self, whole: bool) -> np.ndarray | None:
        """Label of a part of the image; ``None`` where it follows from the part's mask or boxes, or is unknown.

        Args:
            whole: whether the part is the whole image.
        """
        if self.label is None or whole:
            return self.label
        if self.mask is not None or self.boxes is not None:
            return None
        label = np.where(self.label == 0, np.float32(0), np.float32(np.nan))
        return None if np.isnan(label).all() else label


class _Boxes(NamedTuple):
    """Boxes ``(n, 2 D)``, their classes ``(n,)``, and the numbers of their instances ``(n,)``."""

    boxes: np.ndarray
    classes: np.ndarray
    instances: np.ndarray | None


def _all_known(classes: int) -> np.ndarray:
    return np.ones(classes, bool)


def _known_mask(given: Annotation, classes: int) -> tuple[np.ndarray | None, np.ndarray]:
    """The stated mask without the classes that were not looked for, and which were; no class without a mask."""
    if given.mask is None:
        return None, np.zeros(classes, bool)
    if given.mask_known is None:
        return given.mask, _all_known(classes)
    unknown = 1 + np.flatnonzero(~given.mask_known)
    mask = np.where(np.isin(given.mask, unknown), np.uint8(0), given.mask) if len(unknown) else given.mask
    return mask, np.asarray(given.mask_known, bool)


def class_names(classes: Mapping[int, str] | Sequence[str]) -> dict[int, str]:
    """Foreground classes by number; a list is numbered from 1, because 0 is the background.

    Raises:
        InputError: a text in place of a list, no class, numbers that are not 1..K, or a name given twice.

    >>> class_names(["RBC", "WBC"])
    {1: 'RBC', 2: 'WBC'}
    """
    if isinstance(classes, str):
        msg = f"classes must be a list, got the text {classes}; write [{classes}]"
        raise InputError(msg)
    named = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes, start=1))
    if not named or set(named) != set(range(1, len(named) + 1)):
        msg = f"classes must be numbered 1, 2, ... without gaps (0 is the background), got {list(named)}"
        raise InputError(msg)
    if len(set(named.values())) != len(named):
        msg = f"classes must have distinct names, got {list(named.values())}"
        raise InputError(msg)
    return dict(sorted(named.items()))


def _validate(annotation: Annotation, shape: tuple[int, ...], classes: int) -> None:
    for name, known in (("mask_known", annotation.mask_known), ("boxes_known", annotation.boxes_known)):
        if known is not None and np.shape(known) != (classes,):
            msg = f"{name} has shape {np.shape(known)} but there are {classes} classes; give one value per class"
            raise DataError(msg)
    if annotation.mask is not None:
        if annotation.mask.shape != tuple(shape):
            msg = f"mask has shape {annotation.mask.shape} but the image {tuple(shape)}; both must lie on one grid"
            raise DataError(msg)
        top = max((int(v) for v in np.unique(annotation.mask) if v != IGNORE), default=0)
        if top > classes:
            msg = f"mask holds class {top} but only 1..{classes} are declared; add it to the classes or remap it"
            raise DataError(msg)
    if annotation.boxes is None:
        return
    dims = len(shape)
    boxes = np.asarray(annotation.boxes)
    if annotation.box_classes is None or boxes.shape != (len(annotation.box_classes), 2 * dims):
        msg = f"boxes of shape {boxes.shape} need one class each and {2 * dims} coordinates [lo..., hi...]"
        raise DataError(msg)
    inverted = np.flatnonzero((boxes[:, dims:] < boxes[:, :dims]).any(axis=1))
    if len(inverted):
        msg = f"box {boxes[inverted[0]].tolist()} has an upper corner below its lower corner; expected [lo..., hi...]"
        raise DataError(msg)
    numbers = np.abs(annotation.box_classes)
    if len(boxes) and not (numbers.min() >= 1 and numbers.max() <= classes):
        msg = f"box classes must be 1..{classes}, got {sorted(set(annotation.box_classes.tolist()))}"
        raise DataError(msg)
