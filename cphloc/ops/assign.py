"""Assignment of anchors or cells to ground-truth boxes, by best overlap or by the position of the centre.

An assignment is ``(n,)`` int64 with one entry per anchor: the index of a box, `NEGATIVE` for background, or `IGNORED`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cphloc.ops.boxes import overlap, to_centre_size, volume
from cphloc.structures.levels import Levels

NEGATIVE = -1
"""Assignment of anchors that are background."""

IGNORED = -2
"""Assignment of anchors that are left out of the loss."""


def assign_max_iou(iou: Tensor, bg_iou: float, fg_iou: float, rescue: bool = True) -> Tensor:
    """Assign every anchor to the box it overlaps most (Ren et al. 2015).

    Args:
        iou: IoU ``(n, m)`` of n anchors with m boxes.
        bg_iou: anchors whose best IoU is below this value are background.
        fg_iou: anchors whose best IoU is at least this value are positive; those in between are ignored.
        rescue: make the anchors of highest IoU with a box positive even below ``fg_iou``, if that IoU is above 0.

    Returns:
        the assignment ``(n,)``.

    >>> assign_max_iou(torch.tensor([[0.8], [0.4], [0.1]]), 0.3, 0.7).tolist()
    [0, -2, -1]
    """
    if iou.shape[1] == 0:
        return torch.full((len(iou),), NEGATIVE, device=iou.device)
    best, box = iou.max(dim=1)
    assigned = torch.where(best >= fg_iou, box, torch.where(best < bg_iou, NEGATIVE, IGNORED))
    if rescue and len(iou):
        highest = iou.max(dim=0).values
        assigned = torch.where(((iou == highest) & (highest > 0)).any(dim=1), box, assigned)
    return assigned


def reach_every_box(assigned: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
    """Assign the closest anchor to every box without one: that of highest IoU, or of highest GIoU where none overlaps.

    The only anchor of another box is not reassigned. With at least as many anchors as boxes, every object thus trains
    at least one anchor or cell, whatever its size and position.

    Args:
        assigned: assignment ``(n,)``.
        anchors: ``(n, 2 D)`` anchors, or cells as boxes.
        boxes: ``(m, 2 D)``.

    Returns:
        the completed assignment ``(n,)``.
    """
    count = torch.bincount(assigned[assigned >= 0], minlength=len(boxes))
    lost = (count == 0).nonzero()[:, 0].tolist()
    if not lost or not len(anchors):
        return assigned
    assigned = assigned.clone()
    for box in lost:
        iou, giou = overlap(anchors, boxes[box]), overlap(anchors, boxes[box], "giou")
        taken = (assigned >= 0) & (count[assigned.clamp(min=0)] == 1)
        closeness = torch.where(iou > 0, iou, giou - 1).masked_fill(taken, -torch.inf)
        best = closeness.argmax()
        if taken[best]:
            break
        if assigned[best] >= 0:
            count[assigned[best]] -= 1
        assigned[best], count[box] = box, 1
    return assigned


def assign_centre_cell(boxes: Tensor, cells: Sequence[int], stride: Sequence[int]) -> tuple[Tensor, int]:
    """Assign each cell to the box whose centre it contains, of several the smallest (Tian et al. 2019).

    A centre on the far border of the image belongs to the last cell.

    Args:
        boxes: ``(m, 2 D)`` in image voxels.
        cells: cells per axis.
        stride: image voxels per cell and axis.

    Returns:
        the assignment ``(prod(cells),)``, and the number of boxes that were left without a cell.
    """
    step = torch.tensor(stride, device=boxes.device)
    extent = torch.tensor(cells, device=boxes.device)
    at = (to_centre_size(boxes)[0] / step).long().clamp(min=0).minimum(extent - 1)
    flat = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    for axis, n in enumerate(cells):
        flat = flat * n + at[:, axis]
    order = volume(boxes).argsort(stable=True)
    taken = (flat[order, None] == flat[order]).tril(-1).any(dim=1)
    assigned = torch.full((int(extent.prod()),), NEGATIVE, device=boxes.device)
    assigned[flat[order[~taken]]] = order[~taken]
    return assigned, int(taken.sum())


def level_of(boxes: Tensor, levels: Levels, cells_across: float) -> Tensor:
    """Index ``(n,)`` of the coarsest level on which each box spans at least ``cells_across`` cells; else the finest, 0.

    The span is the geometric mean over axes of the side length in cells.
    """
    cells = torch.tensor([level.stride for level in levels], dtype=torch.float32, device=boxes.device).prod(dim=1)
    across = (volume(boxes)[:, None] / cells) ** (1 / levels[0].dims)
    return ((across + 1e-6 >= cells_across).sum(dim=1) - 1).clamp(min=0)
