"""Deformable attention: every query reads a few points of every level, at offsets that it computes itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def sample_points(values: Tensor, points: Tensor) -> Tensor:
    """Read maps at points, multilinearly; cells outside the map count as 0.

    Written with ``gather`` instead of ``grid_sample``, which ONNX has in 2-D only.

    Args:
        values: ``(N, C, *S)``.
        points: ``(N, P, D)`` in fractions of the map, from its edge 0 to 1.

    Returns:
        ``(N, C, P)``.

    >>> sample_points(torch.tensor([[[0.0, 4.0]]]), torch.tensor([[[0.25], [0.5]]]))
    tensor([[[0., 2.]]])
    """
    size = values.shape[2:]
    extent = torch.tensor(size, device=points.device)
    steps = torch.tensor(
        [*itertools.accumulate(reversed(size[1:]), int.__mul__, initial=1)][::-1], device=points.device
    )
    place = points * extent - 0.5
    low = place.floor()
    flat = values.flatten(2)
    total = torch.zeros_like(flat[..., :1])
    for corner in itertools.product((0, 1), repeat=len(size)):
        cell = low + torch.tensor(corner, dtype=low.dtype, device=low.device)
        inside = ((cell >= 0) & (cell < extent)).all(-1)
        weight = (1 - (place - cell).abs()).prod(-1) * inside
        index = (torch.minimum(cell.clamp(min=0), extent - 1).long() * steps).sum(-1)
        total = total + flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1)) * weight[:, None].to(flat.dtype)
    return total


class DeformableAttention(nn.Module):
    """Attention of box queries to a pyramid, at a few points around each box.

    Args:
        channels: channels of queries and maps, a multiple of ``heads``.
        levels: number of levels of the pyramid.
        dims: spatial axes.
        heads: attention heads.
        points: points per head and level.

    Reference: Zhu et al. 2021, Deformable DETR, arXiv:2010.04159.
    """

    def __init__(self, channels: int, levels: int, dims: int, heads: int = 8, points: int = 4) -> None:
        super().__init__()
        self.heads, self.points, self.dims, self.levels = heads, points, dims, levels
        self.offset = nn.Linear(channels, heads * levels * points * dims)
        self.weight = nn.Linear(channels, heads * levels * points)
        self.value, self.out = nn.Linear(channels, channels), nn.Linear(channels, channels)
        nn.init.normal_(self.offset.weight, std=1e-3)
        self.offset.bias = nn.Parameter(self._star())

    def _star(self) -> Tensor:
        """First offsets: each head looks along one direction of one axis, its points at growing distances."""
        offset = torch.zeros(self.heads, self.levels, self.points, self.dims)
        for head in range(self.heads):
            sign = 1 - 2 * (head // self.dims % 2)
            offset[head, :, :, head % self.dims] = sign * (1 + torch.arange(self.points, dtype=offset.dtype))
        return offset.flatten()

    def forward(self, queries: Tensor, boxes: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Read the maps around the boxes.

        Args:
            queries: ``(N, Q, C)``.
            boxes: ``(N, Q, 2 D)`` centre and size in fractions of the image. An offset of ``points`` reaches the face.
            maps: one ``(N, C, *S)`` per level.

        Returns:
            ``(N, Q, C)``.
        """
        shape = (*queries.shape[:2], self.heads, self.levels, self.points)
        centre, size = boxes.float()[:, :, None, None, None].chunk(2, dim=-1)
        place = centre + self.offset(queries).float().view(*shape, self.dims) / self.points * size / 2
        share = self.weight(queries).float().view(*shape[:3], self.levels * self.points).softmax(-1).view(shape)
        wide = queries.shape[-1] // self.heads
        total = queries.new_zeros((shape[0], self.heads, wide, shape[1]))
        for level, x in enumerate(maps):
            value = self.value(x.movedim(1, -1)).movedim(-1, 1)
            value = value.unflatten(1, (self.heads, wide)).flatten(0, 1)
            points = place[:, :, :, level].transpose(1, 2).flatten(0, 1).flatten(1, 2)
            read = sample_points(value, points).view(shape[0], self.heads, wide, shape[1], self.points)
            weight = share[:, :, :, level].transpose(1, 2)[:, :, None]
            total = total + (read * weight.to(read.dtype)).sum(-1)
        return self.out(total.permute(0, 3, 1, 2).flatten(2))
