"""Weighted box clustering: one box from the many that overlapping patches or test-time augmentation give.

Jaeger et al. 2020, Retina U-Net. Where suppression keeps the best box, clustering averages all that agree, and lowers
the score of an object which only some of the views have seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cphloc.ops.boxes import overlap, volume
from cphloc.ops.targets import Detections


def weighted_box_clustering(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    expected: Tensor,
    weights: Tensor | None = None,
    threshold: float = 1e-5,
    by_volume: bool = False,
) -> Detections:
    """Merge boxes of one image that were found in several views of it.

    The best box left is the seed of a cluster: all boxes of its class whose IoU with it exceeds ``threshold``. Each
    member weighs ``w`` = its IoU with the seed times its own weight. The merged box is the mean of the members by
    ``w`` times score; the merged score is the mean score by ``w`` in which every view that should have seen the object
    and did not counts as a member of mean weight and score 0.

    Args:
        boxes: ``(n, 2 D)`` in the coordinates of the whole image.
        scores: ``(n,)`` in [0, 1].
        classes: ``(n,)``.
        expected: ``(n,)`` number of views that cover the place of each box.
        weights: ``(n,)`` trust in each box, such as its nearness to the centre of its patch. ``None``: 1.
        threshold: IoU with the seed above which a box joins.
        by_volume: weigh also by box volume.

    Returns:
        merged boxes by falling score.
    """
    weights = torch.ones_like(scores) if weights is None else weights
    if by_volume:
        weights = weights * volume(boxes)
    left = scores.argsort(descending=True, stable=True)
    merged: list[tuple[Tensor, Tensor, Tensor]] = []
    while len(left):
        seed = left[0]
        iou = overlap(boxes[seed], boxes[left])
        joins = (classes[left] == classes[seed]) & (iou > threshold)
        joins[0] = True
        members, w = left[joins], iou[joins] * weights[left[joins]]
        missing = (expected[members].float().mean() - len(members)).clamp(min=0)
        score = (w * scores[members]).sum() / (w.sum() + missing * w.mean()).clamp(min=torch.finfo(w.dtype).tiny)
        share = (w * scores[members])[:, None]
        box = (share * boxes[members]).sum(dim=0) / share.sum() if share.sum() > 0 else boxes[seed]
        merged.append((box, score, classes[seed]))
        left = left[~joins]
    if not merged:
        return Detections(boxes, scores, classes)
    found = [torch.stack(column) for column in zip(*merged, strict=True)]
    order = found[1].argsort(descending=True, stable=True)
    return Detections(*(column[order] for column in found))
