"""Message passing on graphs, and the graph whose nodes are the cells of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor, nn

Edges = Sequence[Tensor]
"""One ``(2, E)`` int64 of sources and targets per kind of edge."""


def propagate(nodes: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
    """Sum the weighted features of the sources of each node's incoming edges.

    Args:
        nodes: features ``(N, V, C)``.
        edges: ``(2, E)`` sources and targets.
        weight: ``(E,)``.

    Returns:
        ``(N, V, C)``.

    >>> propagate(torch.tensor([[[1.0], [2.0], [4.0]]]), torch.tensor([[0, 1], [2, 2]]), torch.ones(2)).tolist()
    [[[0.0], [0.0], [3.0]]]
    """
    source, target = edges
    return torch.zeros_like(nodes).index_add(1, target, nodes[:, source] * weight[:, None].to(nodes.dtype))


def normalized(edges: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Add a loop at each of ``count`` nodes and return the edges with the weights of ``D^-1/2 (A + I) D^-1/2``.

    Reference: Kipf & Welling 2017, arXiv:1609.02907.

    >>> edges, weight = normalized(torch.tensor([[0, 1], [1, 0]]), 3)
    >>> weight.tolist()
    [0.5, 0.5, 0.5, 0.5, 1.0]
    """
    loops = torch.arange(count, device=edges.device)
    source, target = edges = torch.cat([edges, torch.stack([loops, loops])], dim=1)
    degree = torch.zeros(count, device=edges.device).index_add(0, target, torch.ones_like(target, dtype=torch.float32))
    return edges, (degree[source] * degree[target]).rsqrt()


class GraphConv(nn.Module):
    """Graph convolution: ``A H W + b`` with normalized ``A`` for one kind of edge, ``sum_r A_r H W_r + b`` for several.

    Args:
        in_channels, out_channels: features of a node.
        kinds: kinds of edges.

    Reference: Kipf & Welling 2017, arXiv:1609.02907;
    kinds of edges Schlichtkrull et al. 2018, arXiv:1703.06103.
    """

    def __init__(self, in_channels: int, out_channels: int, kinds: int = 1) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(in_channels, out_channels, bias=False) for _ in range(kinds))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, nodes: Tensor, edges: Edges) -> Tensor:
        """Map node features ``(N, V, in)`` to ``(N, V, out)``, given the edges of each kind."""
        if len(self.linears) == 1:
            return propagate(self.linears[0](nodes), *normalized(edges[0], nodes.shape[1])) + self.bias
        kinds = zip(self.linears, edges, strict=True)
        arriving = (propagate(linear(nodes), e, torch.ones_like(e[0], dtype=nodes.dtype)) for linear, e in kinds)
        return sum(arriving) + self.bias


def grid_edges(shape: Sequence[int], device: torch.device | str | None = None) -> list[Tensor]:
    """List the edges of a grid: to every cell from its neighbour in each of ``3^D`` directions, itself included.

    Args:
        shape: cells per axis; they are numbered in array order.
        device: device of the returned tensors.

    Returns:
        one ``(2, E)`` per offset of the source from the target, in the order of ``product((-1, 0, 1), repeat=D)``:
        that of the taps of a convolution kernel.

    >>> [edges.tolist() for edges in grid_edges((2,))]
    [[[0], [1]], [[0, 1], [0, 1]], [[1], [0]]]
    """
    numbers = torch.arange(prod(shape), device=device).view(*shape)
    edges = []
    for offset in product((-1, 0, 1), repeat=len(shape)):
        target = tuple(slice(max(-o, 0), n - max(o, 0)) for o, n in zip(offset, shape, strict=True))
        source = tuple(slice(max(o, 0), n - max(-o, 0)) for o, n in zip(offset, shape, strict=True))
        edges.append(torch.stack([numbers[source].flatten(), numbers[target].flatten()]))
    return edges
