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
    """Sum what arrives at each node: ``(N, V, C)`` nodes, ``(2, E)`` edges, ``(E,)`` weights to ``(N, V, C)``.

    >>> propagate(torch.tensor([[[1.0], [2.0], [4.0]]]), torch.tensor([[0, 1], [2, 2]]), torch.ones(2)).tolist()
    [[[0.0], [0.0], [3.0]]]
    """
    source, target = edges
    return torch.zeros_like(nodes).index_add(1, target, nodes[:, source] * weight[:, None].to(nodes.dtype))


def normalized(edges: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Edges with a loop at each of ``count`` nodes, and the weights of ``D^-1/2 (A + I) D^-1/2`` (Kipf & Welling).

    >>> edges, weight = normalized(torch.tensor([[0, 1], [1, 0]]), 3)
    >>> weight.tolist()
    [0.5, 0.5, 0.5, 0.5, 1.0]
    """
    loops = torch.arange(count, device=edges.device)
    source, target = edges = torch.cat([edges, torch.stack([loops, loops])], dim=1)
    degree = torch.zeros(count, device=edges.device).index_add(0, target, torch.ones_like(target, dtype=torch.float32))
    return edges, (degree[source] * degree[target]).rsqrt()


class GraphConv(nn.Module):
    """``A H W + b`` over one kind of edge, normalized as in a GCN; over several, ``sum_r A_r H W_r + b`` as they are.

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
        """``(N, V, in)`` and the edges of each kind to ``(N, V, out)``."""
        if len(self.linears) == 1:
            return propagate(self.linears[0](nodes), *normalized(edges[0], nodes.shape[1])) + self.bias
        kinds = zip(self.linears, edges, strict=True)
        arriving = (propagate(linear(nodes), e, torch.ones_like(e[0], dtype=nodes.dtype)) for linear, e in kinds)
        return sum(arriving) + self.bias


def grid_edges(shape: Sequence[int], device: torch.device | str | None = None) -> list[Tensor]:
    """Edges of a grid into every cell from its neighbour in each of the ``3^D`` directions, itself included.

    Args:
        shape: cells per axis; they are numbered in array order.
        device: where to put them.

    Returns:
        one ``(2, E)`` per offset of the source from the target, in the order of ``product((-1, 0, 1), repeat=D)``:
        that of the taps of a convolution kernel.

    >>> [edges.tolist() for edges in grid_edges((2,))]
    [[[0], [1]], [[0, 1], [0, 1]], [[1], [0]]]
    """
    numbers = torch.arange(prod(shape), device=device).view(*shape)
    found = []
    for offset in product((-1, 0, 1), repeat=len(shape)):
        target = tuple(slice(max(-o, 0), n - max(o, 0)) for o, n in zip(offset, shape, strict=True))
        source = tuple(slice(max(o, 0), n - max(-o, 0)) for o, n in zip(offset, shape, strict=True))
        found.append(torch.stack([numbers[source].flatten(), numbers[target].flatten()]))
    return found
