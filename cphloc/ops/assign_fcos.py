"""Assignment of grid points to the boxes around them (Tian et al. 2019, FCOS, arXiv:1904.01355)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cphloc.ops.assign import NEGATIVE, reach_every_box
from cphloc.ops.boxes import encode_faces, from_centre_size, to_centre_size, volume
from cphloc.structures.levels import Levels

CELLS_PER_LEVEL = 8.0
"""Largest distance from a point to a face of its box on a level, in cells: 64 pixels at stride 8."""


def assign_fcos(points: Sequence[Tensor], levels: Levels, boxes: Tensor, radius: float = 1.5) -> Tensor:
    """Assign points to boxes by position and box size.

    A point can be assigned to a box if it is inside the box, within ``radius`` of its centre, and on the level for its
    distance to the box's farthest face (see `level_ranges`). Of several boxes the smallest is chosen. A box without
    any point, such as one smaller than a cell, gets the closest cell (see `reach_every_box`).

    Args:
        points: ``(n_l, D)`` cell centres of every level, in image voxels.
        levels: pyramid levels.
        boxes: ``(m, 2 D)``.
        radius: largest distance of a point from the box centre per axis, in cells of its level; 0: no limit.

    Returns:
        ``(sum of n_l,)`` int64: index of a box or -1.
    """
    ranges = level_ranges(levels)
    assigned = []
    for at, level, (least, most) in zip(points, levels, ranges, strict=True):
        if len(boxes) == 0:
            assigned.append(torch.full((len(at),), NEGATIVE, device=at.device))
            continue
        faces = encode_faces(boxes[None], at[:, None])
        reach = faces.amax(dim=-1)
        fits = (faces.amin(dim=-1) > 0) & (reach > least) & (reach <= most)
        if radius:
            step = torch.tensor(level.stride, device=at.device)
            off = (at[:, None] - to_centre_size(boxes)[0]).abs()
            fits &= (off < radius * step).all(dim=-1)
        size = torch.where(fits, volume(boxes), torch.inf)
        smallest, box = size.min(dim=1)
        assigned.append(torch.where(smallest < torch.inf, box, NEGATIVE))
    cells = [
        from_centre_size(at, torch.tensor(level.stride, device=at.device).expand_as(at))
        for at, level in zip(points, levels, strict=True)
    ]
    return reach_every_box(torch.cat(assigned), torch.cat(cells), boxes)


def level_ranges(levels: Levels) -> list[tuple[float, float]]:
    """Range of the distance from a point to the farthest face of its box, in voxels, for every level.

    The lower bound is exclusive, the upper inclusive; the last level has no upper bound.

    >>> from cphloc.structures.levels import Level
    >>> level_ranges((Level(1, (8, 8)), Level(1, (16, 16)), Level(1, (32, 32))))
    [(-1.0, 64.0), (64.0, 128.0), (128.0, inf)]
    """
    strides = torch.tensor([level.stride for level in levels], dtype=torch.float64)
    bounds = (CELLS_PER_LEVEL * strides.log().mean(dim=1).exp()).tolist()
    bounds = [round(bound, 6) for bound in bounds]
    return list(zip([-1.0, *bounds[:-1]], [*bounds[:-1], float("inf")], strict=True))
