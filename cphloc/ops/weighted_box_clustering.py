"""Weighted box clustering: merge the boxes predicted in overlapping patches or under test-time augmentation.

Jaeger et al. 2020, Retina U-Net, arXiv:1811.08661. Unlike non-maximum suppression, it averages the overlapping boxes
and lowers the score of objects that were detected in only some of the views.
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
    """Merge the boxes predicted in several views of one image.

    Clusters are formed one after the other: the remaining box of highest score is the seed, and all remaining boxes of
    its class whose IoU with it exceeds ``threshold`` are members. The weight ``w`` of a member is its IoU with the seed
    times its entry in ``weights``. The merged box is the mean of the members weighted by ``w`` times score. The merged
    score is the mean score weighted by ``w``, where every view that covers the object but has no member counts as a
    member of mean weight and score 0.

    Args:
        boxes: ``(n, 2 D)`` in the coordinates of the whole image.
        scores: ``(n,)`` in [0, 1].
        classes: ``(n,)``.
        expected: ``(n,)`` number of views that cover the position of each box.
        weights: ``(n,)`` weight of each box, such as its closeness to the centre of its patch; ``None``: 1.
        threshold: IoU with the seed above which a box joins the cluster.
        by_volume: also multiply weights by box volume.

    Returns:
        merged boxes by descending score.
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
    columns = [torch.stack(column) for column in zip(*merged, strict=True)]
    order = columns[1].argsort(descending=True, stable=True)
    return Detections(*(column[order] for column in columns))
