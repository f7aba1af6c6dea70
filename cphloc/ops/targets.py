"""Tensors that pass between data, model and heads: the targets of a batch, and the predictions of a head.

A batch may mix cases of every rung of the supervision ladder. A ``has_*`` vector marks which cases have an annotation;
a head excludes the others from its loss, so they contribute exactly zero gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor

from cphloc.structures.annotation import IGNORE, Annotation


@dataclass
class Targets:
    """Annotations of a batch of N images of size ``(*S)``, with weaker annotations derived from stronger ones.

    Args:
        masks: ``(N, *S)`` int64; 0 background, 1..K classes, 255 not annotated.
        mask_known: ``(N, K)`` bool, classes that were looked for when the mask was drawn. The mask contains no other
            class; 0 then means "background or one of the others".
        boxes: N tensors ``(n, 2 D)`` float32, edge coordinates ``[lo..., hi...]`` in array-axis order.
        box_classes: N tensors ``(n,)`` int64, 1..K.
        boxes_known: ``(N, K)`` bool, classes that were looked for when the boxes were drawn; a known class without a
            box is absent.
        ignored: N tensors ``(n, 2 D)`` float32, boxes in which objects of a class are not annotated one by one.
        ignored_classes: N tensors ``(n,)`` int64, 1..K, the classes for which they are ignored.
        regions: ``(N, *S)`` float32 in [0, 1]: union of the boxes where there are boxes, else the coarse region.
        has_region: ``(N,)`` bool.
        labels: ``(N, K)`` float32; 1 present, 0 absent, NaN unknown.
        has_label: ``(N,)`` bool.
        instances: ``(N, *S)`` int64, number of the object of each voxel, 0 none; ``None`` where no image of the batch
            tells objects apart.
        box_instances: N tensors ``(n,)`` int64, number of each box in ``instances``, 0 where it has none.
        images: ``(N, C, *S)``, for losses that compare voxels of the images; set by the training step.
    """

    masks: Tensor
    mask_known: Tensor
    boxes: list[Tensor]
    box_classes: list[Tensor]
    boxes_known: Tensor
    ignored: list[Tensor]
    ignored_classes: list[Tensor]
    regions: Tensor
    has_region: Tensor
    labels: Tensor
    has_label: Tensor
    instances: Tensor | None = None
    box_instances: list[Tensor] = field(default_factory=list)
    images: Tensor | None = None

    @property
    def has_mask(self) -> Tensor:
        """``(N,)`` bool: whether some class is known in the mask."""
        return self.mask_known.any(1)

    @property
    def has_boxes(self) -> Tensor:
        """``(N,)`` bool: whether boxes of some class are known."""
        return self.boxes_known.any(1)

    def known_at(self, rows: Sequence[int], points: Tensor) -> Tensor:
        """Find the classes whose absence can be judged at points of images.

        Args:
            rows: M images of the batch.
            points: ``(n, D)`` in voxels of the images.

        Returns:
            ``(M, n, K)`` bool, True for a class that was looked for, except in boxes where it is to be ignored; n is 1
            if there is no such box.
        """
        known = self.boxes_known[rows][:, None]
        if not any(len(self.ignored[row]) for row in rows):
            return known
        known = known.repeat(1, len(points), 1)
        for n, row in enumerate(rows):
            low, high = self.ignored[row].chunk(2, dim=1)
            inside = ((points[:, None] >= low) & (points[:, None] < high)).all(2)
            for box, number in zip(inside.T, self.ignored_classes[row].tolist(), strict=True):
                known[n, box, number - 1] = False
        return known

    def merged(self, table: Sequence[int]) -> Targets:
        """Return the targets with classes of the data set merged, as `cphloc.structures.merging.merged_annotation`.

        Args:
            table: number in the result of each class 0..K; 0 is the background in both.
        """
        new = torch.tensor(table, device=self.masks.device)
        members = new[1:] == torch.arange(1, max(table) + 1, device=new.device)[:, None]
        mask_known, boxes_known = ((known[:, None] | ~members).all(2) for known in (self.mask_known, self.boxes_known))
        numbers = new[self.masks.clamp(max=len(table) - 1)]
        looked_for = torch.cat([mask_known.new_ones(len(mask_known), 1), mask_known], 1)
        seen = looked_for.gather(1, numbers.flatten(1)).view_as(numbers)
        present = ((self.labels > 0)[:, None] & members).any(2)
        absent = ((self.labels == 0)[:, None] | ~members).all(2)
        of_boxes = self.boxes, self.box_classes, new, boxes_known, self.box_instances
        boxes, box_classes, box_instances = _renumbered(*of_boxes)
        ignored, ignored_classes, _ = _renumbered(self.ignored, self.ignored_classes, new, boxes_known)
        return replace(
            self,
            masks=torch.where(self.masks == IGNORE, IGNORE, numbers * seen),
            mask_known=mask_known,
            boxes=boxes,
            box_classes=box_classes,
            boxes_known=boxes_known,
            ignored=ignored,
            ignored_classes=ignored_classes,
            labels=torch.where(present, 1.0, torch.where(absent, 0.0, torch.nan)),
            box_instances=box_instances,
        )

    @property
    def size(self) -> tuple[int, ...]:
        """``(*S)`` of the images."""
        return tuple(self.masks.shape[1:])

    def __len__(self) -> int:
        return len(self.masks)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Targets:
        """Copy to ``device``."""
        moved = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, list):
                moved[f.name] = [v.to(device, non_blocking=non_blocking) for v in value]
            elif value is not None:
                moved[f.name] = value.to(device, non_blocking=non_blocking)
        return replace(self, **moved)

    @classmethod
    def collate(cls, annotations: Sequence[Annotation], size: tuple[int, ...], classes: int) -> Targets:
        """Stack the annotations of images that all have ``size`` voxels, with weaker annotations derived."""
        done = [a.completed(size, classes) for a in annotations]
        no_boxes = np.zeros((0, 2 * len(size)), np.float32)
        return cls(
            masks=_stack([a.mask for a in done], np.zeros(size, np.int64)),
            mask_known=_stack([a.mask_known for a in done], np.zeros(classes, bool)),
            boxes=[_tensor(None if a.boxes is None else a.objects[0], no_boxes) for a in done],
            box_classes=[_tensor(a.objects[1], np.zeros(0, np.int64)) for a in done],
            boxes_known=_stack([a.boxes_known for a in done], np.zeros(classes, bool)),
            ignored=[_tensor(None if a.boxes is None else a.ignored[0], no_boxes) for a in done],
            ignored_classes=[_tensor(a.ignored[1], np.zeros(0, np.int64)) for a in done],
            regions=_stack([a.region for a in done], np.zeros(size, np.float32)),
            has_region=torch.tensor([a.region is not None for a in done], dtype=torch.bool),
            labels=_stack([a.label for a in done], np.full(classes, np.nan, np.float32)),
            has_label=torch.tensor([a.label is not None for a in done], dtype=torch.bool),
            instances=_stack([a.instances for a in done], np.zeros(size, np.int64)) if _told_apart(done) else None,
            box_instances=[_tensor(a.object_instances, np.zeros(0, np.int64)) for a in done]
            if _told_apart(done)
            else [],
        )


@dataclass
class Detections:
    """Detections of one image: boxes with score and class.

    Args:
        boxes: ``(n, 2 D)`` float32, edge coordinates ``[lo..., hi...]`` in array-axis order.
        scores: ``(n,)`` float32 in [0, 1], in descending order.
        classes: ``(n,)`` int64, 1..K.
        masks: ``(n, *M)`` probabilities of the object on the grid of its box, of heads that outline objects.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass
class Prediction:
    """Prediction of one head for a batch of N images; fields that it does not predict are ``None``.

    Args:
        mask_probabilities: ``(N, K + 1, *S)``, background first, summing to 1 over classes.
        detections: one `Detections` per image.
        attention: ``(N, *S')`` on the head's own grid, summing to 1 over each image.
        label_probabilities: ``(N, K)`` in [0, 1].
        extra: further named outputs of the head, such as yearly risk ``(N, years)``.
    """

    mask_probabilities: Tensor | None = None
    detections: list[Detections] | None = None
    attention: Tensor | None = None
    label_probabilities: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)


def _renumbered(
    boxes: Sequence[Tensor], classes: Sequence[Tensor], table: Tensor, known: Tensor, instances: Sequence[Tensor] = ()
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Boxes, new class numbers and instances of each image, without boxes of classes that are not known as a whole."""
    numbers = [table[old] for old in classes]
    kept = [row[new - 1] for row, new in zip(known, numbers, strict=True)]
    return (
        [b[k] for b, k in zip(boxes, kept, strict=True)],
        [n[k] for n, k in zip(numbers, kept, strict=True)],
        [i[k] for i, k in zip(instances, kept, strict=True)] if instances else [],
    )


def _told_apart(annotations: Sequence[Annotation]) -> bool:
    return any(annotation.instances is not None for annotation in annotations)


def _tensor(value: np.ndarray | None, default: np.ndarray) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(default if value is None else value).astype(default.dtype, copy=False))


def _stack(values: Sequence[np.ndarray | None], default: np.ndarray) -> Tensor:
    """Stack values to ``(N, *default.shape)``, with ``default`` in place of each ``None``."""
    none = torch.as_tensor(default)[None][:0]
    return torch.stack([_tensor(v, default) for v in values]) if values else none
