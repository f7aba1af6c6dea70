"""One-to-one assignment of predictions to objects by least total cost."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cphloc.ops.boxes import overlap_matrix

ALPHA, GAMMA, SCORE_WEIGHT = 0.25, 2.0, 2.0
"""Focal cost of a class and its weight, of Deformable DETR."""


@torch.no_grad()
def assign_hungarian(
    scores: Tensor,
    boxes: Tensor,
    distance: Tensor,
    true_boxes: Tensor,
    true_classes: Tensor,
    box_weight: float = 5.0,
    iou_weight: float = 2.0,
) -> tuple[Tensor, Tensor]:
    """Match every object to a prediction of its own, so that the sum of class, distance and GIoU costs is least.

    Args:
        scores: ``(Q, K)`` class logits.
        boxes: ``(Q, 2 D)`` predicted boxes.
        distance: ``(Q, M)`` distance of each prediction to each object.
        true_boxes: ``(M, 2 D)``.
        true_classes: ``(M,)`` int64, 0..K - 1.
        box_weight: weight of the distance.
        iou_weight: weight of the negative GIoU.

    Returns:
        indices of predictions and of objects, each ``(min(Q, M),)``.

    Reference: Carion et al. 2020, arXiv:2005.12872; costs Zhu et al. 2021, arXiv:2010.04159.
    """
    p = scores.float().sigmoid()
    positive = ALPHA * (1 - p) ** GAMMA * -(p + 1e-8).log()
    negative = (1 - ALPHA) * p**GAMMA * -(1 - p + 1e-8).log()
    cost = SCORE_WEIGHT * (positive - negative)[:, true_classes] + box_weight * distance
    cost = cost - iou_weight * overlap_matrix(boxes, true_boxes, "giou")
    rows, columns = linear_sum_assignment(cost.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6).cpu().numpy())
    return torch.from_numpy(rows).to(boxes.device), torch.from_numpy(columns).to(boxes.device)
