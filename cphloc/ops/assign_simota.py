"""SimOTA: the predictions themselves decide who answers for a box (Ge et al. 2021, YOLOX, arXiv:2107.08430)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cphloc.ops.assign import NEGATIVE, reach_every_box
from cphloc.ops.boxes import from_centre_size, overlap, overlap_matrix, to_centre_size

OUTSIDE_COST = 1e6
IOU_WEIGHT = 3.0
IOUS_COUNTED = 10


def assign_simota(
    points: Tensor,
    strides: Tensor,
    predicted: Tensor,
    probabilities: Tensor,
    boxes: Tensor,
    classes: Tensor,
    radius: float = 1.5,
) -> tuple[Tensor, Tensor]:
    """Assign grid points to boxes at least cost.

    Points within ``radius`` cells of a box's centre compete. The cost of a pair is the cross-entropy of its class
    scores plus three times -log IoU of its prediction. A box takes as many points as the sum of its ten best IoUs,
    at least one; a point wanted twice goes where it costs less.

    Args:
        points: ``(n, D)`` cell centres in image voxels.
        strides: ``(n, D)`` of each point's level.
        predicted: ``(n, 2 D)`` boxes the points predict now.
        probabilities: ``(n, K)`` of class times objectness.
        boxes: ``(m, 2 D)``.
        classes: ``(m,)``, 0..K-1.
        radius: in cells.

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
    """Cross-entropy ``(n, m)`` of the square root of the scores against each box's class, summed over classes."""
    p = probabilities.float().clamp(1e-12, 1 - 1e-7).sqrt()
    truth = functional.one_hot(classes, p.shape[1]).to(p)
    return -(p.log() @ truth.T) - (-p).log1p() @ (1 - truth).T


def _cheapest(cost: Tensor, iou: Tensor) -> Tensor:
    """Bool ``(n, m)``: the dynamic number of cheapest points of each box."""
    best = iou.topk(min(IOUS_COUNTED, len(iou)), dim=0).values
    number = best.sum(dim=0).int().clamp(min=1, max=len(iou))
    rank = cost.argsort(dim=0, stable=True).argsort(dim=0)
    return rank < number
