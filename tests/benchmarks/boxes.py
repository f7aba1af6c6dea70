"""Suppression of 3-D boxes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from .measure import Comparison, Contender, apart, below, times_less

THRESHOLD = 0.5


def comparisons(full: bool) -> list[Comparison]:
    """Ten boxes an object. Goals are for many boxes: a few take everybody less than a millisecond or two."""
    jobs = []
    for count in (1_000, 10_000, 50_000):
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
                goal = times_less(1) if count >= 10_000 else None
                jobs.append(Comparison(f"NMS of {count:,} boxes, 3-D against 2-D", ours, peers, goal))
    return [*jobs, *_overlaps()]


def _overlaps() -> list[Comparison]:
    """IoU of all pairs, and pooling of boxes, beside MONAI's and torchvision's."""
    return [
        Comparison(
            "IoU of 1,000 x 1,000 3-D boxes",
            Contender("cphloc", _iou),
            [Contender("MONAI box_iou", apart(_iou_monai))],
            times_less(4),
            lambda ours, theirs: torch.allclose(ours, theirs, atol=1e-5),
        ),
        Comparison(
            "RoIAlign of 100 boxes to 7 x 7, 2-D, 64 channels",
            Contender("cphloc", lambda: _roi_align(2)),
            [Contender("torchvision roi_align", apart(_roi_align_torchvision))],
            times_less(1),
            lambda ours, theirs: torch.allclose(ours, theirs, atol=1e-4),
        ),
        Comparison(
            "RoIAlign of 100 boxes to 7 x 7 x 7, 3-D, 64 channels",
            Contender("cphloc", lambda: _roi_align(3)),
            goal=below(0.06),
        ),
        Comparison("weighted clustering of 1,000 3-D boxes", Contender("cphloc", _cluster)),
    ]


def _iou() -> Callable[[], Tensor]:
    from cphloc.ops.boxes import overlap_matrix

    boxes, _ = _boxes(1_000, 3)
    return lambda: overlap_matrix(boxes, boxes)


def _iou_monai() -> Callable[[], Tensor]:
    from monai.data.box_utils import box_iou

    boxes, _ = _boxes(1_000, 3)
    return lambda: box_iou(boxes, boxes)


def _rois(dims: int) -> tuple[Tensor, Tensor]:
    """A map and 100 boxes on it."""
    random = torch.Generator().manual_seed(0)
    side = {2: 128, 3: 32}[dims]
    low = torch.rand(100, dims, generator=random) * side / 2
    boxes = torch.cat([low, low + 2 + torch.rand(100, dims, generator=random) * side / 3], dim=1)
    return torch.randn(1, 64, *(side,) * dims, generator=random), boxes


def _roi_align(dims: int) -> Callable[[], Tensor]:
    from cphloc.distributed.machine import reuse_freed_memory
    from cphloc.ops.roi_align import roi_align

    reuse_freed_memory()  # as every training and prediction does
    features, boxes = _rois(dims)
    return lambda: roi_align(features, [boxes], (1,) * dims, (7,) * dims)


def _roi_align_torchvision() -> Callable[[], Tensor]:
    from torchvision.ops import roi_align

    features, boxes = _rois(2)
    xyxy = torch.cat([torch.zeros(len(boxes), 1), boxes[:, [1, 0, 3, 2]]], dim=1)
    return lambda: roi_align(features, xyxy, 7, sampling_ratio=2, aligned=True)


def _cluster() -> Callable[[], int]:
    from cphloc.ops.weighted_box_clustering import weighted_box_clustering

    boxes, scores = _boxes(1_000, 3)
    classes, expected = torch.ones(len(boxes), dtype=torch.long), torch.full((len(boxes),), 10)
    return lambda: len(weighted_box_clustering(boxes, scores, classes, expected, None, THRESHOLD))


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
