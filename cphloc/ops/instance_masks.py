"""Masks of single objects on the grid of their boxes: targets to learn from, and pasting into the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cphloc.ops.boxes import corners
from cphloc.ops.roi_align import roi_align
from cphloc.structures.annotation import IGNORE


def mask_targets(
    mask: Tensor, regions: Tensor, boxes: Tensor, classes: Tensor, size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Resample the object of each box to the grid of a region that overlaps it.

    The object is what has its class in the mask inside its box.

    Args:
        mask: ``(*S)`` classes of an image, 255 where not annotated.
        regions: ``(n, 2 D)`` regions in image voxels.
        boxes: ``(n, 2 D)`` box of the object that each region belongs to.
        classes: ``(n,)`` class of the object, 1..K.
        size: cells of the grid per axis.

    Returns:
        ``(n, *size)`` float32, 1 inside the object, and ``(n, *size)`` bool, whether the cell is annotated.
    """
    present, channel = classes.unique(return_inverse=True)
    maps = torch.stack([*(mask == number for number in present), mask == IGNORE]).float()[None]
    pooled = roi_align(maps, [regions], (1,) * mask.dim(), size, samples=1)
    own = pooled[torch.arange(len(regions), device=pooled.device), channel]
    inside = torch.ones_like(own, dtype=torch.bool)
    (lo, hi), (near, far) = corners(regions), corners(boxes)
    for axis, n in enumerate(size):
        along = (torch.arange(n, device=lo.device) + 0.5) / n
        at = lo[:, axis, None] + (hi - lo)[:, axis, None] * along
        within = (at >= near[:, axis, None]) & (at < far[:, axis, None])
        inside &= within.view(-1, *(n if other == axis else 1 for other in range(len(size))))
    return ((own >= 0.5) & inside).float(), pooled[:, -1] < 0.5


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
