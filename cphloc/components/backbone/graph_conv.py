"""Graph convolutions on the grid of cells: message passing between neighbours."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from cphloc.config.argument_types import PerAxis, Widths
from cphloc.ops.graph import GraphConv, grid_edges
from cphloc.ops.layers import conv_type, fit, initialize, per_axis
from cphloc.structures.levels import Level, Levels


class GraphConvolutions(nn.Module):
    """Cut the image into cells, the nodes of a graph, and let neighbours exchange messages.

    Args:
        in_channels: image channels (set when the model is built).
        dims: spatial axes (set when the model is built).
        cell: voxels of a cell, one number or one per axis in array order.
        widths: features of a node after each layer; ``widths[0]`` after the cells are read.
        edges: ``shared``, one weight for all neighbours as in a GCN, which cannot tell left from right; or
            ``directed``, one for each direction, which makes a layer a 3x3 convolution.

    Shapes:
        ``(N, in_channels, *S)`` to one ``(N, widths[-1], *ceil(S / cell))``.

    Reference: Kipf & Welling 2017, arXiv:1609.02907.

    >>> GraphConvolutions(1, 3, cell=[1, 4, 4], widths=[8, 16]).levels
    (Level(channels=16, stride=(1, 4, 4)),)
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        cell: PerAxis = 4,
        widths: Widths = (32, 64, 64),
        edges: Literal["shared", "directed"] = "shared",
    ) -> None:
        super().__init__()
        self.cell = per_axis(cell, dims)
        self.shared = edges == "shared"
        self.read = conv_type(dims)(in_channels, widths[0], self.cell, self.cell)
        self.layers = nn.ModuleList(GraphConv(a, b, 1 if self.shared else 3**dims) for a, b in pairwise(widths))
        self.levels: Levels = (Level(widths[-1], self.cell),)
        initialize(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """One level of cells."""
        cells = self.read(fit(x, [-(-n // c) * c for n, c in zip(x.shape[2:], self.cell, strict=True)], "edge"))
        shape = cells.shape[2:]
        edges = grid_edges(shape, x.device)
        if self.shared:
            del edges[len(edges) // 2]  # a GCN adds the loops itself
            edges = [torch.cat(edges, dim=1)]
        nodes = cells.flatten(2).transpose(1, 2).relu()
        for layer in self.layers:
            nodes = layer(nodes, edges).relu()
        return (nodes.transpose(1, 2).unflatten(2, shape),)
