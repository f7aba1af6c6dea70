"""SimOTA, an assignment by the cost of the current predictions (Ge et al. 2021, YOLOX, arXiv:2107.08430)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cphloc.ops.assign import NEGATIVE, reach_every_box
from cphloc.ops.boxes import from_centre_size, overlap, overlap_matrix, to_centre_size

OUTSIDE_COST = 1e6
"""Cost added to points farther than the radius from the centre of the box."""

IOU_WEIGHT = 3.0
"""Weight of -log IoU in the cost."""

IOUS_COUNTED = 10
"""Number of best IoUs whose sum is the number of points of a box."""


def assign_simota(
    points: Tensor,
    strides: Tensor,
    predicted: Tensor,
    probabilities: Tensor,
    boxes: Tensor,
    classes: Tensor,
    radius: float = 1.5,
) -> tuple[Tensor, Tensor]:
    """Assign grid points to boxes by lowest cost.

    Points within ``radius`` cells of a box centre are candidates. The cost of a point for a box is the cross-entropy
    of its predicted class scores plus three times -log IoU of its predicted box. A box gets its cheapest points, as
    many as the sum of its ten best IoUs rounded down, at least one; a point chosen by several boxes is assigned to
    that of lowest cost. A box without any point gets the closest cell (see `reach_every_box`).

    Args:
        points: ``(n, D)`` cell centres in image voxels.
        strides: ``(n, D)`` stride of each point's level.
        predicted: ``(n, 2 D)`` predicted box of each point.
        probabilities: ``(n, K)`` class probability times objectness.
        boxes: ``(m, 2 D)``.
        classes: ``(m,)``, 0..K-1.
        radius: largest distance of a candidate from the box centre per axis, in cells of its level.

    Returns:
        the assignment ``(n,)`` int64, index of a box or -1, and the IoU ``(n,)`` of each point with its box.
    """
    assigned = torch.full((len(points),), NEGATIVE, device=points.device)
    quality = torch.zeros(len(points), device=points.device)
    off = (points[:, None] - to_centre_size(boxes)[0]).abs()
    near = (off < radius * strides[:, None]).all(dim=-1)
    candidates = near.any(dim=1).nonzero()[:, 0]
    if len(boxes) == 0:
        return assigned, quality
    iou = overlap_matrix(predicted[candidates], boxes)
    cost = _class_cost(probabilities[candidates], classes) - IOU_WEIGHT * (iou + 1e-8).log()
    cost = cost + OUTSIDE_COST * ~near[candidates]
    wanted = _cheapest(cost, iou)
    cost = torch.where(wanted, cost, torch.inf)
    least, box = cost.min(dim=1)
    kept = least < torch.inf
    assigned[candidates[kept]] = box[kept]
    assigned = reach_every_box(assigned, from_centre_size(points, strides), boxes)
    positive = assigned >= 0
    quality[positive] = overlap(predicted[positive], boxes[assigned[positive]])
    return assigned, quality


def _class_cost(probabilities: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy ``(n, m)`` of the square roots of the probabilities with each box's class, summed over classes."""
    p = probabilities.float().clamp(1e-12, 1 - 1e-7).sqrt()
    truth = functional.one_hot(classes, p.shape[1]).to(p)
    return -(p.log() @ truth.T) - (-p).log1p() @ (1 - truth).T


def _cheapest(cost: Tensor, iou: Tensor) -> Tensor:
    """Select the cheapest points of each box, their number depending on its IoUs; bool ``(n, m)``."""
    best = iou.topk(min(IOUS_COUNTED, len(iou)), dim=0).values
    number = best.sum(dim=0).int().clamp(min=1, max=len(iou))
    rank = cost.argsort(dim=0, stable=True).argsort(dim=0)
    return rank < number
