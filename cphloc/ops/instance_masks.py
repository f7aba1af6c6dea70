"""Masks of single objects on the grid of their boxes: targets to learn from, and pasting into the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from cphloc.ops.boxes import corners, overlap
from cphloc.ops.roi_align import roi_align
from cphloc.ops.targets import Detections
from cphloc.ops.weighted_box_clustering import weighted_box_clustering
from cphloc.structures.annotation import IGNORE
from cphloc.structures.instances import ObjectMask

OBJECT_PROBABILITY = 0.5
"""Least probability of the voxels of an object that a head outlines."""


def mask_targets(
    mask: Tensor,
    regions: Tensor,
    boxes: Tensor,
    classes: Tensor,
    size: Sequence[int],
    instances: Tensor | None = None,
    numbers: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Resample the object of each box to the grid of a region that overlaps it.

    The object is its instance, so that touching objects are told apart; without one, what has its class in the mask
    inside its box.

    Args:
        mask: ``(*S)`` classes of an image, 255 where not annotated.
        regions: ``(n, 2 D)`` regions in image voxels.
        boxes: ``(n, 2 D)`` box of the object that each region belongs to.
        classes: ``(n,)`` class of the object, 1..K.
        size: cells of the grid per axis.
        instances: ``(*S)`` number of the object of each voxel.
        numbers: ``(n,)`` number in ``instances`` of the object of each region, 0 where it has none.

    Returns:
        ``(n, *size)`` float32, 1 inside the object, and ``(n, *size)`` bool, whether the cell is annotated.
    """
    if instances is None or numbers is None:
        instances, numbers = mask, torch.zeros_like(classes)
    own = regions.new_zeros((len(regions), *size))
    for number, label in sorted(set(zip(numbers.tolist(), classes.tolist(), strict=True))):
        at = (numbers == number) & (classes == label)
        own[at] = _on_grids(instances == number if number else mask == label, regions[at], size)
    inside = _in_boxes(regions, boxes, size) | (numbers > 0).view(-1, *(1,) * len(size))
    return ((own >= 0.5) & inside).float(), _on_grids(mask == IGNORE, regions, size) < 0.5


def _on_grids(chosen: Tensor, regions: Tensor, size: Sequence[int]) -> Tensor:
    """Share ``(n, *size)`` of voxels that are chosen ``(*S)``, interpolated at the cells of regions."""
    return roi_align(chosen.float()[None, None], [regions], (1,) * chosen.dim(), size, samples=1)[:, 0]


def _in_boxes(regions: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Whether the cells ``(n, *size)`` of regions have their centres in boxes ``(n, 2 D)``."""
    inside = torch.ones((len(regions), *size), dtype=torch.bool, device=regions.device)
    (lo, hi), (near, far) = corners(regions), corners(boxes)
    for axis, n in enumerate(size):
        along = (torch.arange(n, device=lo.device) + 0.5) / n
        at = lo[:, axis, None] + (hi - lo)[:, axis, None] * along
        within = (at >= near[:, axis, None]) & (at < far[:, axis, None])
        inside &= within.view(-1, *(n if other == axis else 1 for other in range(len(size))))
    return inside


def regridded(masks: Tensor, boxes: Tensor, others: Tensor) -> Tensor:
    """Resample masks ``(n, *M)`` from the grids of ``boxes`` to those of ``others``, both ``(n, 2 D)``, linearly."""
    if not len(masks):
        return masks
    (lo, hi), (low, high) = corners(boxes), corners(others)
    size = masks.shape[1:]
    places = []
    for axis, n in enumerate(size):
        along = (torch.arange(n, device=lo.device) + 0.5) / n
        at = low[:, axis, None] + (high - low)[:, axis, None] * along
        place = 2 * (at - lo[:, axis, None]) / (hi - lo)[:, axis, None] - 1
        places.append(place.view(-1, *(n if other == axis else 1 for other in range(len(size)))))
    grid = torch.stack(torch.broadcast_tensors(*places)[::-1], dim=-1).to(masks.dtype)
    return functional.grid_sample(masks[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def merged_detections(
    found: Sequence[Detections], expected: Tensor, threshold: float, weights: Tensor | None = None
) -> Detections:
    """Merge the detections of several views or networks by weighted box clustering; masks, if all have them, as well.

    Args:
        found: detections of each, in the coordinates of the whole image.
        expected, threshold, weights: see `cphloc.ops.weighted_box_clustering`, for the boxes of all one after another.
    """
    boxes, scores, classes = (torch.cat([getattr(d, part) for d in found]) for part in ("boxes", "scores", "classes"))
    merged = weighted_box_clustering(boxes, scores, classes, expected, weights, threshold)
    masks = [each.masks for each in found if each.masks is not None]
    if len(masks) < len(found):
        return merged
    return replace(merged, masks=mean_masks(torch.cat(masks), boxes, scores, classes, merged, threshold))


def mean_masks(
    masks: Tensor, boxes: Tensor, scores: Tensor, classes: Tensor, merged: Detections, least: float
) -> Tensor:
    """Average the masks of the boxes that agree with each merged box, weighted by score.

    Args:
        masks: ``(n, *M)`` on the grids of ``boxes``.
        boxes: ``(n, 2 D)``, in any order.
        scores: ``(n,)``.
        classes: ``(n,)``.
        merged: boxes that were merged from them.
        least: IoU with a merged box above which a box of its class agrees; the one with the highest always does.

    Returns:
        ``(m, *M)`` on the grids of the merged boxes.
    """
    means = []
    for box, number in zip(merged.boxes, merged.classes, strict=True):
        iou = overlap(box, boxes) * (classes == number)
        agree = (iou > least) | (iou == iou.max())
        moved = regridded(masks[agree], boxes[agree], box.expand(int(agree.sum()), -1))
        share = scores[agree].clamp(min=1e-6).view(-1, *(1,) * (masks.dim() - 1))
        means.append((share * moved).sum(0) / share.sum(0))
    return torch.stack(means) if means else masks[:0]


def pasted(mask: Tensor, box: Tensor, extent: Sequence[int]) -> tuple[tuple[slice, ...], Tensor]:
    """Resample a mask from the grid of its box to the voxels of the image, linearly.

    Args:
        mask: ``(*M)`` probabilities on the grid of the box.
        box: ``(2 D,)`` in image voxels.
        extent: image size in voxels.

    Returns:
        the part of the image that the box touches, as slices, and the probabilities there; 0 at voxels whose centre is
        outside the box.
    """
    lo, hi = (x[0] for x in corners(box[None]))
    first = [min(n, max(0, int(low))) for low, n in zip(lo.tolist(), extent, strict=True)]
    last = [min(n, max(0, -int(-high // 1))) for high, n in zip(hi.tolist(), extent, strict=True)]
    at = tuple(slice(a, max(a, b)) for a, b in zip(first, last, strict=True))
    if any(part.start == part.stop for part in at):
        return at, mask.new_zeros([part.stop - part.start for part in at])
    axes = [
        (torch.arange(part.start, part.stop, device=mask.device) + 0.5 - low) / (high - low).clamp(min=1e-6)
        for part, low, high in zip(at, lo, hi, strict=True)
    ]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    inside = ((place >= 0) & (place < 1)).all(-1)
    grid = (2 * place - 1).flip(-1)[None]
    values = functional.grid_sample(mask[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
    return at, values * inside


def outlined(mask: Tensor, box: Tensor, extent: Sequence[int]) -> ObjectMask:
    """Voxels of an object of the image, from its probabilities on the grid of its box; arguments as of `pasted`.

    >>> outlined(torch.ones(4, 4), torch.tensor([1.0, 1, 3, 3]), (8, 8)).size
    4
    """
    at, values = pasted(mask, box, extent)
    return ObjectMask(tuple(part.start for part in at), values.cpu().numpy() >= OBJECT_PROBABILITY)


def class_probabilities(masks: Tensor, boxes: Tensor, classes: Tensor, extent: Sequence[int], count: int) -> Tensor:
    """Return ``(count + 1, *extent)`` probabilities of background and classes, from those of single objects.

    A class has the highest probability of its objects; all are scaled to sum 1.

    Args:
        masks: ``(n, *M)`` probabilities on the grids of the boxes.
        boxes: ``(n, 2 D)`` in image voxels.
        classes: ``(n,)``, 1..count.
        extent: image size in voxels.
        count: number of classes.
    """
    foreground = masks.new_zeros((count, *extent))
    for mask, box, number in zip(masks, boxes, classes.tolist(), strict=True):
        at, values = pasted(mask, box, extent)
        place = (number - 1, *at)
        foreground[place] = torch.maximum(foreground[place], values)
    together = torch.cat([(1 - foreground).prod(0, keepdim=True), foreground])
    return together / together.sum(0, keepdim=True)
