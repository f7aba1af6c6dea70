"""Objects that are told apart voxel by voxel: instance masks, and the voxels of one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cphloc.errors import DataError
from cphloc.structures.annotation import IGNORE, Annotation


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """Voxels of one object.

    Args:
        first: index ``(D,)`` of the first voxel of the part.
        inside: ``(*M)`` bool, the voxels of the part that belong to the object.

    >>> one, other = ObjectMask((0, 0), np.ones((2, 3), bool)), ObjectMask((1, 2), np.ones((4, 4), bool))
    >>> one.size, one.common(other)
    (6, 1)
    """

    first: tuple[int, ...]
    inside: np.ndarray

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.inside))

    @property
    def where(self) -> tuple[slice, ...]:
        """The part of the image, as slices."""
        return tuple(slice(low, low + n) for low, n in zip(self.first, self.inside.shape, strict=True))

    def common(self, other: ObjectMask) -> int:
        """Count the voxels that belong to both objects."""
        ends = [(min(a.stop, b.stop), max(a.start, b.start)) for a, b in zip(self.where, other.where, strict=True)]
        if any(stop <= start for stop, start in ends):
            return 0
        parts = (
            each.inside[tuple(slice(start - f, stop - f) for (stop, start), f in zip(ends, each.first, strict=True))]
            for each in (self, other)
        )
        return int(np.count_nonzero(np.logical_and(*parts)))

    def moved(self, offset: Sequence[int]) -> ObjectMask:
        """Return the object at a place ``offset`` voxels further along each axis."""
        return ObjectMask(tuple(f + int(o) for f, o in zip(self.first, offset, strict=True)), self.inside)


def of_instances(instances: np.ndarray, classes: int | Mapping[int, int]) -> Annotation:
    """Convert an instance mask: a class for every voxel and one box for every object, even where objects touch.

    Args:
        instances: ``(*S)`` whole numbers; 0 background, every other value one object, in one piece or several.
        classes: class 1..K of all objects, or of each by its value.

    Returns:
        mask ``(*S)`` uint8, boxes by value, their classes and the instances.

    Raises:
        DataError: an object without a class, or a class for an object that has no voxel.

    >>> of_instances(np.array([[1, 1, 2, 2]]), classes=1).boxes.tolist()
    [[0.0, 0.0, 1.0, 2.0], [0.0, 2.0, 1.0, 4.0]]
    """
    from scipy import ndimage

    values, inverse = np.unique(instances, return_inverse=True)
    order = inverse.reshape(instances.shape) + (0 if values[0] == 0 else 1)
    objects = values[values != 0].tolist()
    table = dict.fromkeys(objects, classes) if isinstance(classes, int) else classes
    for value in sorted(set(objects) ^ set(table)):
        msg = f"object {value} {'has a class but no voxel' if value in table else 'has no class'}; correct its number"
        raise DataError(msg)
    box_classes = np.array([table[value] for value in objects], np.int64)
    found = ndimage.find_objects(order)
    boxes = [[s.start for s in spans] + [s.stop for s in spans] for spans in found]
    return Annotation(
        mask=np.concatenate([[0], box_classes]).astype(np.uint8)[order],
        boxes=np.asarray(boxes, np.float32).reshape(-1, 2 * instances.ndim),
        box_classes=box_classes,
        instances=order.astype(np.int32),
        box_instances=np.arange(1, len(objects) + 1),
    )


def painted(objects: Sequence[ObjectMask | None], shape: tuple[int, ...]) -> np.ndarray:
    """Draw objects into one label image ``(*S)`` int32: the number of each, from 1; 0 is no object.

    Where objects overlap, the first one is used. ``None`` stands for an object without a mask.

    >>> painted([ObjectMask((0,), np.ones(2, bool)), ObjectMask((1,), np.ones(2, bool))], (4,)).tolist()
    [1, 1, 2, 0]
    """
    drawn = np.zeros(shape, np.int32)
    for number, each in reversed(list(enumerate(objects, start=1))):
        if each is not None:
            drawn[each.where][each.inside] = number
    return drawn


def object_masks(annotation: Annotation) -> list[ObjectMask]:
    """Return the voxels of each box of an annotation with a mask.

    They are those of its instance; where the annotation has no instances, the voxels in its box of its class; of a box
    to ignore, the voxels in its box that are not annotated.
    """
    mask, boxes, classes = (np.asarray(each) for each in (annotation.mask, annotation.boxes, annotation.box_classes))
    numbers = np.zeros(len(boxes), int) if annotation.box_instances is None else annotation.box_instances
    found = []
    for box, number, instance in zip(boxes, classes.tolist(), numbers.tolist(), strict=True):
        low, high = np.split(box, 2)
        first = np.clip(np.floor(low), 0, mask.shape).astype(int)
        stop = np.clip(np.ceil(high), first, mask.shape).astype(int)
        part = tuple(map(slice, first, stop))
        if instance and annotation.instances is not None:
            inside = annotation.instances[part] == instance
        else:
            inside = mask[part] == (number if number > 0 else IGNORE)
        found.append(ObjectMask(tuple(first.tolist()), inside))
    return found
