"""Greedy and soft non-maximum suppression in any number of dimensions."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cphloc.errors import InputError
from cphloc.ops.boxes import corners, overlap_matrix

HUGE = 4.0
"""Boxes longer than this multiple of the median size on some axis bypass the grid and are compared with all others."""


def nms(boxes: Tensor, scores: Tensor, threshold: float, classes: Tensor | None = None) -> Tensor:
    """Greedy non-maximum suppression: drop each box whose IoU with a kept higher-scored one exceeds ``threshold``.

    A box at exactly the threshold is kept; of equal scores the earlier box comes first. Neighbours are looked up in a
    uniform grid, so for boxes of similar size the time grows linearly with their number, not quadratically.

    Args:
        boxes: ``(n, 2 D)``.
        scores: ``(n,)``.
        threshold: IoU in [0, 1] above which the lower-scored box is dropped.
        classes: ``(n,)``; boxes suppress only boxes of the same class. ``None``: all have the same class.

    Returns:
        indices ``(kept,)`` int64 by descending score.

    Raises:
        InputError: a coordinate or score is not finite, or a box is inverted.

    >>> nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [5, 5, 6, 6]]), torch.tensor([0.8, 0.9, 0.1]), 0.5).tolist()
    [1, 2]
    """
    from cphloc.ops.nms_kernel import suppress  # imported here because numba is slow to import and compile

    _check(boxes, scores)
    order = scores.argsort(descending=True, stable=True)
    ordered = boxes[order].detach().cpu().numpy().astype(np.float64)
    groups = np.zeros(len(ordered), np.int64) if classes is None else classes[order].cpu().numpy().astype(np.int64)
    keep = suppress(ordered, groups, float(threshold), *_grid(ordered))
    return order[torch.from_numpy(keep).to(order.device)]


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor | None = None,
    method: Literal["linear", "gaussian"] = "linear",
    threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 0.001,
    limit: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Soft non-maximum suppression (Bodla et al. 2017): lower the scores of overlapping boxes instead of dropping them.

    Args:
        boxes: ``(n, 2 D)``.
        scores: ``(n,)``.
        classes: ``(n,)``; boxes affect only boxes of the same class. ``None``: all have the same class.
        method: ``linear`` multiplies the score by ``1 - IoU`` where the IoU with a higher-scored box exceeds
            ``threshold``; ``gaussian`` by ``exp(-IoU² / sigma)`` at any IoU.
        threshold: IoU in [0, 1], for ``linear``.
        sigma: width of the Gaussian, for ``gaussian``.
        min_score: boxes whose lowered score is at or below this value are dropped.
        limit: largest number of boxes to keep; ``None``: all.

    Returns:
        indices ``(kept,)`` int64 by descending lowered score, and the lowered scores ``(kept,)``.

    Raises:
        InputError: a coordinate or score is not finite, or a box is inverted.
    """
    _check(boxes, scores)
    iou = overlap_matrix(boxes, boxes)
    factor = torch.where(iou > threshold, 1 - iou, 1.0) if method == "linear" else (-iou.square() / sigma).exp()
    if classes is not None:
        factor = torch.where(classes[:, None] == classes, factor, 1.0)
    left = scores.float().clone()
    kept, lowered = [], []
    for _ in range(len(boxes) if limit is None else min(limit, len(boxes))):
        best = int(left.argmax())
        score = float(left[best])
        if score <= min_score:
            break
        kept.append(best)
        lowered.append(score)
        left = left * factor[best]
        left[kept] = -torch.inf
    return (
        torch.tensor(kept, dtype=torch.int64, device=boxes.device),
        torch.tensor(lowered, dtype=torch.float32, device=boxes.device),
    )


def _check(boxes: Tensor, scores: Tensor) -> None:
    if boxes.ndim != 2 or boxes.shape[1] % 2 or scores.shape != boxes.shape[:1]:
        msg = f"suppression needs boxes (n, 2 D) and scores (n,), got {tuple(boxes.shape)} and {tuple(scores.shape)}"
        raise InputError(msg)
    if not (torch.isfinite(boxes).all() and torch.isfinite(scores).all()):
        msg = "a box or score is not finite; check whether training diverged and whether an image contains NaN"
        raise InputError(msg)
    corners(boxes)


def _grid(boxes: np.ndarray) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    """Build a uniform grid over the centres of ``boxes``, with cells as large as the largest box that is not huge.

    Overlapping boxes are then in the same cell or in neighbouring ones. The number of cells is proportional to the
    number of boxes, and a border of empty cells keeps every neighbour inside the grid.

    Returns:
        flat cell index ``(n,)`` int64 of every box; the number of cells; offsets ``(3^D,)`` from a cell to itself and
        its neighbours; and ``(n,)`` bool, true for boxes longer than `HUGE` medians.
    """
    n, dims = len(boxes), boxes.shape[1] // 2
    if n == 0:
        return np.zeros(0, np.int64), 0, np.zeros(0, np.int64), np.zeros(0, np.bool_)
    low, high = np.ascontiguousarray(boxes.T).reshape(2, dims, n)  # one contiguous row per axis
    size, centre = high - low, (high + low) / 2
    huge = np.asarray((size > HUGE * np.median(size, axis=1, keepdims=True)).any(axis=0))
    longest = size.max(axis=1, initial=0.0, where=~huge)
    start = centre.min(axis=1)
    per_axis = (centre.max(axis=1) - start) / np.ceil((4 * n) ** (1 / dims))
    edge = np.maximum(np.maximum(longest, per_axis), np.finfo(float).tiny)
    places = ((centre - start[:, None]) / edge[:, None]).astype(np.int64) + 1
    shape = places.max(axis=1) + 2
    around = np.ravel_multi_index(np.indices((3,) * dims).reshape(dims, -1), shape)
    around -= around[len(around) // 2]
    return np.ravel_multi_index(places, shape), int(np.prod(shape)), around, huge
