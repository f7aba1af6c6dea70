"""Suppression of 3-D boxes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from .measure import Comparison, Contender, times_less

THRESHOLD = 0.5


def comparisons(full: bool) -> list[Comparison]:
    """Ten boxes an object. Goals are for many boxes: a few take everybody less than a millisecond or two."""
    jobs = []
    for count in (1_000, 10_000, 50_000) if full else (1_000, 10_000):
        peers = [Contender("torchvision nms, 2-D boxes", lambda count=count: _torchvision(count))]
        for dims in (2, 3):
            ours = Contender("cphloc", lambda count=count, dims=dims: _ours(count, dims))
            if dims == 2:
                goal = times_less(1) if count >= 10_000 else None
                jobs.append(Comparison(f"NMS of {count:,} 2-D boxes", ours, peers, goal, _same))
            else:
                goal = times_less(300) if count >= 50_000 else None
                monai = Contender("MONAI non_max_suppression", lambda count=count: _monai(count))
                jobs.append(Comparison(f"NMS of {count:,} 3-D boxes", ours, [monai], goal, _same))
    return jobs


def _ours(count: int, dims: int) -> Callable[[], Tensor]:
    from cphloc.ops.nms import nms

    boxes, scores = _boxes(count, dims)
    return lambda: nms(boxes, scores, THRESHOLD)


def _monai(count: int) -> Callable[[], Tensor]:
    from monai.data.box_utils import non_max_suppression

    boxes, scores = _boxes(count, 3)
    return lambda: non_max_suppression(boxes, scores, THRESHOLD)


def _torchvision(count: int) -> Callable[[], Tensor]:
    from torchvision.ops import nms

    boxes, scores = _boxes(count, 2)
    return lambda: nms(boxes, scores, THRESHOLD)


def _boxes(count: int, dims: int) -> tuple[Tensor, Tensor]:
    """Boxes ``(count, 2 D)`` jittered about objects on a grid that do not touch, and distinct scores."""
    random = torch.Generator().manual_seed(0)
    objects = count // 10
    per_axis = round(objects ** (1 / dims) + 0.5)
    grid = torch.tensor(list(product(range(per_axis), repeat=dims))[:objects], dtype=torch.float32) * 60
    low = grid.repeat_interleave(10, dim=0)[:count] + 4 * torch.rand(count, dims, generator=random)
    size = 20 + 4 * torch.rand(count, dims, generator=random)
    return torch.cat([low, low + size], dim=1), torch.randperm(count, generator=random).float() / count


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return ours.tolist() == theirs.tolist()
