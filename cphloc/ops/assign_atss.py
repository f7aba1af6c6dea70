"""Adaptive training sample selection (ATSS), an assignment with an IoU threshold computed for every box.

Zhang et al. 2020, arXiv:1912.02424.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cphloc.ops.assign import NEGATIVE, reach_every_box
from cphloc.ops.boxes import corners, overlap, to_centre_size


def assign_atss(anchors: Sequence[Tensor], boxes: Tensor, candidates: int = 9, centre_inside: bool = True) -> Tensor:
    """Assign anchors to boxes, with a threshold from the IoUs of each box's nearest anchors.

    The candidates of a box are, per level, the anchors whose centres are nearest to its own. Candidates whose IoU is at
    least the mean plus the (unbiased) standard deviation over all candidates of the box are positive. An anchor that is
    positive for several boxes is assigned to the one of highest IoU. A box without any anchor, such as a lesion smaller
    than a cell, gets the closest one (see `reach_every_box`).

    Args:
        anchors: ``(n_l, 2 D)`` of every level.
        boxes: ``(m, 2 D)``.
        candidates: number of candidates per box and level.
        centre_inside: require the centre of a positive anchor to be inside the box.

    Returns:
        ``(sum of n_l,)`` int64: index of a box or -1.
    """
    every = torch.cat(list(anchors))
    assigned = torch.full((len(every),), NEGATIVE, device=every.device)
    if len(boxes) == 0:
        return assigned
    chosen = _nearest(anchors, boxes, candidates)
    iou = overlap(every[chosen], boxes)
    spread = iou.std(dim=0) if len(chosen) > 1 else torch.zeros_like(iou[0])
    good = iou >= iou.mean(dim=0) + spread
    if centre_inside:
        centre = to_centre_size(every[chosen])[0]
        lo, hi = corners(boxes)
        good &= torch.cat([centre - lo, hi - centre], dim=-1).amin(dim=-1) > 0.01
    wanted = torch.full((len(every), len(boxes)), -1.0, device=every.device)
    wanted.scatter_(0, chosen, torch.where(good, iou, -1.0))
    best, box = wanted.max(dim=1)
    assigned = torch.where(best >= 0, box, assigned)
    return reach_every_box(assigned, every, boxes)


def _nearest(anchors: Sequence[Tensor], boxes: Tensor, candidates: int) -> Tensor:
    """Return indices ``(candidates of all levels, m)`` into the concatenated anchors, by nearest centre per level."""
    centre = to_centre_size(boxes)[0]
    chosen, start = [], 0
    for level in anchors:
        distance = torch.cdist(to_centre_size(level)[0], centre)
        chosen.append(start + distance.topk(min(candidates, len(level)), dim=0, largest=False).indices)
        start += len(level)
    return torch.cat(chosen)
