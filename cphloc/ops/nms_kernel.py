"""Inner loop of `cphloc.ops.nms`, compiled with numba."""

from __future__ import annotations

import numpy as np

from cphloc.paths import compiled


@compiled()
def suppress(
    boxes: np.ndarray,
    groups: np.ndarray,
    threshold: float,
    cell: np.ndarray,
    cells: int,
    around: np.ndarray,
    huge: np.ndarray,
) -> np.ndarray:
    """Greedy suppression of boxes that are sorted by descending score and indexed by a uniform grid.

    Kept boxes are stored in one linked list per grid cell. Huge boxes are compared with all kept boxes, and all boxes
    with the kept huge ones.

    Args:
        boxes: ``(n, 2 D)`` float64.
        groups: ``(n,)`` int64; boxes suppress only boxes of the same group.
        threshold: IoU above which the lower-scored box is dropped.
        cell: ``(n,)`` int64 flat index of the grid cell of every box.
        cells: number of grid cells.
        around: ``(3^D,)`` int64 offsets from a cell to itself and its neighbours.
        huge: ``(n,)`` bool, true for boxes that may overlap boxes outside the neighbouring cells.

    Returns:
        bool ``(n,)``, true where the box is kept.
    """
    n = len(boxes)
    keep = np.zeros(n, np.bool_)
    first_in_cell = np.full(cells, -1, np.int64)
    next_in_cell = np.full(n, -1, np.int64)
    kept, kept_huge = np.empty(n, np.int64), np.empty(n, np.int64)
    count = count_huge = 0
    for i in range(n):
        dropped = _overlaps_any(boxes, groups, threshold, i, kept_huge[:count_huge])
        if not dropped and huge[i]:
            dropped = _overlaps_any(boxes, groups, threshold, i, kept[:count])
        elif not dropped:
            dropped = _overlaps_near(boxes, groups, threshold, i, cell[i], around, first_in_cell, next_in_cell)
        if dropped:
            continue
        keep[i] = True
        if huge[i]:
            kept_huge[count_huge] = i
            count_huge += 1
        else:
            kept[count] = i
            count += 1
            next_in_cell[i] = first_in_cell[cell[i]]
            first_in_cell[cell[i]] = i
    return keep


@compiled()
def _overlaps_near(
    boxes: np.ndarray,
    groups: np.ndarray,
    threshold: float,
    i: int,
    home: int,
    around: np.ndarray,
    first_in_cell: np.ndarray,
    next_in_cell: np.ndarray,
) -> bool:
    for step in around:
        neighbour: int = home + step
        j: int = first_in_cell[neighbour]
        while j >= 0:
            if groups[i] == groups[j] and _iou(boxes, i, j) > threshold:
                return True
            j = next_in_cell[j]
    return False


@compiled()
def _overlaps_any(boxes: np.ndarray, groups: np.ndarray, threshold: float, i: int, others: np.ndarray) -> bool:
    for j in others:  # noqa: SIM110 (numba cannot compile `any` of a generator)
        if groups[i] == groups[j] and _iou(boxes, i, j) > threshold:
            return True
    return False


@compiled()
def _iou(boxes: np.ndarray, i: int, j: int) -> float:
    dims = boxes.shape[1] // 2
    common, volume_i, volume_j = 1.0, 1.0, 1.0
    for axis in range(dims):
        lo_i, hi_i, lo_j, hi_j = boxes[i, axis], boxes[i, axis + dims], boxes[j, axis], boxes[j, axis + dims]
        side = min(hi_i, hi_j) - max(lo_i, lo_j)
        if side <= 0:
            return 0.0
        common *= side
        volume_i *= hi_i - lo_i
        volume_j *= hi_j - lo_j
    return common / (volume_i + volume_j - common)
