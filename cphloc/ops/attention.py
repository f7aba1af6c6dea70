"""Attention maps: softmax over all cells, pooling, the log share inside a region, and regions on the map's grid.

Cases without annotation or without a finding get an empty region, for which the loss is 0 and its gradients exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cphloc.ops.targets import Targets
from cphloc.structures.levels import Level

LOG_ZERO = -1e30
"""Finite value in place of the log of attention that is exactly 0."""


def log_softmax(scores: Tensor) -> Tensor:
    """Return log attention ``(N, *S')`` of scores ``(N, *S')``: one softmax over all cells of a case.

    Computed in float32 whatever the precision of the scores: over 128 x 128 x 50 cells uniform attention is 1.2e-6,
    which half precision cannot represent.

    >>> log_softmax(torch.zeros(1, 2, 2)).exp().sum().item()
    1.0
    """
    return scores.float().flatten(1).log_softmax(1).view(scores.shape)


def finite_log(log_attention: Tensor) -> Tensor:
    """Convert log attention to float32 and replace -inf by `LOG_ZERO`, so that losses are finite."""
    return log_attention.float().clamp_min(LOG_ZERO)


def pool(features: Tensor, log_attention: Tensor) -> Tensor:
    """Return the attention-weighted sum ``(N, C)`` of features ``(N, C, *S')``, accumulated in float32."""
    return (features.float() * log_attention.exp()[:, None]).flatten(2).sum(2).to(features.dtype)


def log_mass(log_attention: Tensor, region: Tensor) -> Tensor:
    """Return the log of the share of attention inside a region, ``log(sum A M / sum A)``, at most 0.

    Computed as a difference of two log-sum-exps, so it stays finite and exact however little attention is inside.

    Args:
        log_attention: ``(N, *S')`` log attention, or unnormalised scores.
        region: ``(N, *S')`` in [0, 1]; an empty one gives 0.

    Returns:
        ``(N,)`` float32.

    >>> attention = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]])
    >>> round(log_mass(attention.log(), torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])).exp().item(), 6)
    0.6
    """
    scores, region = finite_log(log_attention).flatten(1), region.float().flatten(1)
    inside = torch.where(has_mass(region)[:, None], region, 1.0)
    log_region = torch.where(inside > 0, inside, 1.0).log().masked_fill(inside <= 0, -torch.inf)
    return torch.logsumexp(scores + log_region, 1) - torch.logsumexp(scores, 1)


def has_mass(region: Tensor) -> Tensor:
    """Return bool ``(N,)``: True where a region ``(N, *S')`` has any value above 0."""
    return (region > 0).flatten(1).any(1)


def mean_over_marked(losses: Tensor, region: Tensor) -> Tensor:
    """Average ``losses`` ``(N,)`` over the cases with a non-empty region; 0, with zero gradients, without any."""
    return losses.sum() / has_mass(region).sum().clamp_min(1)


def boxes_on_grid(boxes: Tensor, level: Level, grid: tuple[int, ...]) -> Tensor:
    """Rasterize boxes as the fraction of each cell they cover, divided by the largest such fraction.

    The cell that a box covers most is therefore 1, however small the box is: nearest-neighbour sampling would lose
    small boxes, and undivided fractions would leave a loss that no attention map can bring to 0.

    Args:
        boxes: ``(n, 2 D)`` edges ``[lo..., hi...]`` in image voxels.
        level: the pyramid level of the grid; its stride is the size of a cell.
        grid: ``(*S')`` cells.

    Returns:
        ``(n, *S')`` in [0, 1]; 0 everywhere for a box outside the grid.

    >>> boxes_on_grid(torch.tensor([[0.0, 7.0, 4.0, 8.5]]), Level(1, (4, 4)), (1, 3))
    tensor([[[0.0000, 1.0000, 0.5000]]])
    """
    dims = len(grid)
    covered = boxes.new_ones(len(boxes), *(1,) * dims)
    for axis, (cells, stride) in enumerate(zip(grid, level.stride, strict=True)):
        edges = torch.arange(cells + 1, device=boxes.device, dtype=boxes.dtype) * stride
        low, high = boxes[:, axis, None], boxes[:, axis + dims, None]
        overlap = (torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:-1])).clamp_min(0) / stride
        covered = covered * overlap.view(-1, *(cells if a == axis else 1 for a in range(dims)))
    return _relative_to_peak(covered)


def regions_on_grid(regions: Tensor, level: Level, grid: tuple[int, ...]) -> Tensor:
    """Resample regions ``(N, *S)`` to a grid ``(*S')`` by area, divided by the value of the cell they cover most."""
    missing = [cells * stride - n for cells, stride, n in zip(grid, level.stride, regions.shape[1:], strict=True)]
    padded = F.pad(regions.float(), [pad for m in reversed(missing) for pad in (0, m)])
    return _relative_to_peak(F.interpolate(padded[:, None], size=grid, mode="area")[:, 0])


def _relative_to_peak(regions: Tensor) -> Tensor:
    if not len(regions):
        return regions
    peak = regions.flatten(1).amax(1).clamp_min(torch.finfo(regions.dtype).tiny)
    return regions / peak.view(-1, *(1,) * (regions.dim() - 1))


@dataclass
class AttentionTargets:
    """Attention targets of a batch on the grid of the attention map; empty for a case without the annotation.

    Args:
        region: ``(N, *S')`` union of the boxes of the cases that have boxes.
        boxes: N tensors ``(n, *S')``, the boxes one by one.
        coarse: ``(N, *S')`` the region of the cases that have only a coarse region, such as a side.
    """

    region: Tensor
    boxes: list[Tensor]
    coarse: Tensor

    @classmethod
    def of(cls, targets: Targets, level: Level, grid: tuple[int, ...]) -> AttentionTargets:
        """Resample targets to a ``grid`` of ``level``; a case with all classes absent gets empty regions."""
        positive = ~(targets.labels == 0).all(1)
        empty = targets.regions.new_zeros(0, *grid)
        with_boxes = (positive & targets.boxes_known.all(1)).tolist()
        boxes = [
            boxes_on_grid(b, level, grid) if use else empty for b, use in zip(targets.boxes, with_boxes, strict=True)
        ]
        only_coarse = positive & targets.has_region & ~targets.boxes_known.all(1)
        shown = torch.where(only_coarse.view(-1, *(1,) * len(grid)), targets.regions, 0.0)
        union = torch.stack([b.amax(0) if len(b) else b.new_zeros(grid) for b in boxes]) if boxes else empty
        return cls(region=union, boxes=boxes, coarse=regions_on_grid(shown, level, grid))
