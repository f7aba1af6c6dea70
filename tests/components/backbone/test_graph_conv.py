from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from cphloc.components.backbone.graph_conv import GraphConvolutions
from cphloc.ops.graph import GraphConv, grid_edges
from cphloc.ops.layers import conv_type


def edges_of(adjacency: torch.Tensor) -> torch.Tensor:
    return adjacency.nonzero().T


@pytest.fixture
def graph():
    draw = torch.Generator().manual_seed(0)
    adjacency = (torch.rand(9, 9, generator=draw) < 0.4).triu(1)
    adjacency[4] = adjacency[:, 4] = False
    return torch.randn(2, 9, 5, generator=draw), adjacency | adjacency.T


def test_a_layer_is_the_dense_formula_of_kipf_and_welling(graph):
    nodes, adjacency = graph
    layer = GraphConv(5, 3)
    loops = adjacency.float() + torch.eye(9)
    half = loops.sum(1).rsqrt().diag()
    expected = half @ loops @ half @ nodes @ layer.linears[0].weight.T + layer.bias
    assert_close(layer(nodes, [edges_of(adjacency)]), expected, atol=1e-6, rtol=1e-5)


def test_nodes_follow_a_permutation_and_the_readout_does_not_see_it(graph):
    nodes, adjacency = graph
    layer, order = GraphConv(5, 3), torch.randperm(9)
    out = layer(nodes, [edges_of(adjacency)])
    permuted = layer(nodes[:, order], [edges_of(adjacency[order][:, order])])
    assert_close(permuted, out[:, order], atol=1e-6, rtol=1e-5)
    for readout in (torch.sum, torch.mean, torch.amax):
        assert_close(readout(permuted, dim=1), readout(out, dim=1), atol=1e-6, rtol=1e-5)


def test_an_isolated_node_keeps_to_itself(graph):
    nodes, adjacency = graph
    layer = GraphConv(5, 3)
    assert_close(layer(nodes, [edges_of(adjacency)])[:, 4], layer.linears[0](nodes[:, 4]) + layer.bias)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_grid_with_an_edge_kind_per_direction_is_a_convolution(dims):
    size = (4, 5, 3)[:dims]
    conv = conv_type(dims)(2, 3, 3, padding=1)
    layer = GraphConv(2, 3, kinds=3**dims)
    with torch.no_grad():
        layer.bias.copy_(conv.bias)
        for linear, tap in zip(layer.linears, conv.weight.flatten(2).unbind(2), strict=True):
            linear.weight.copy_(tap)
    x = torch.randn(2, 2, *size)
    nodes = layer(x.flatten(2).transpose(1, 2), grid_edges(size))
    assert_close(nodes.transpose(1, 2).unflatten(2, size), conv(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_one_weight_for_all_is_a_convolution_with_equal_taps_away_from_the_border(dims):
    backbone = GraphConvolutions(2, dims, cell=1, widths=[4, 3])
    conv = conv_type(dims)(4, 3, 3, padding=1)
    with torch.no_grad():
        conv.bias.copy_(backbone.layers[0].bias)
        conv.weight.copy_((backbone.layers[0].linears[0].weight / 3**dims)[(..., *(None,) * dims)])
    x = torch.randn(1, 2, *(7, 6, 8)[:dims])
    inside = (..., *(slice(2, -2),) * dims)
    assert_close(backbone(x)[0][inside], conv(backbone.read(x).relu()).relu()[inside], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("edges", ["shared", "directed"])
def test_only_directed_edges_tell_left_from_right(dims, edges):
    torch.manual_seed(0)
    backbone = GraphConvolutions(1, dims, cell=1, widths=[4, 6], edges=edges)
    x = torch.randn(1, 1, *(6, 5, 4)[:dims])
    mirrored = backbone(x.flip(-1))[0].flip(-1)
    assert torch.allclose(mirrored, backbone(x)[0], atol=1e-5) == (edges == "shared")


def test_a_cell_sees_one_neighbour_further_with_each_layer():
    backbone = GraphConvolutions(1, 2, cell=1, widths=[2, 2, 2])
    for parameter in backbone.parameters():
        nn.init.ones_(parameter)
    image = torch.ones(1, 1, 9, 9, requires_grad=True)
    (gradient,) = torch.autograd.grad(backbone(image)[0][0, 0, 4, 4], image)
    assert gradient[0, 0].nonzero().amin(0).tolist() == [2, 2]
    assert gradient[0, 0].nonzero().amax(0).tolist() == [6, 6]
