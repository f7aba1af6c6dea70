"""Weight gradients of convolutions in bfloat16 on a CPU, over inputs smaller than the kernel along an axis."""

import pytest
import torch
from torch import nn

from cphloc.ops.layers import SafeConv2d, SafeConv3d, conv_type, with_safe_convolutions

KERNELS = [(3, 3, 3), (3, 1, 1), (1, 3, 3)]


def gradient(layer: type[nn.Conv3d], kernel, size, precision, **options):
    torch.manual_seed(0)
    conv = layer(16, 16, kernel, padding=tuple(k // 2 for k in kernel), **options)
    x = torch.randn(2, 16, *size)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        conv(x).float().square().mean().backward()
    return conv.weight.grad


def error(layer, kernel, size, **options):
    """Largest deviation from float32 relative to the largest gradient, with memory that holds NaN before."""
    exact = gradient(layer, kernel, size, "32", **options)
    _ = [torch.full((16, 16, *kernel), torch.nan) for _ in range(8)]
    found = gradient(layer, kernel, size, "bf16", **options)
    return float(((found - exact).abs().max() / exact.abs().max()).nan_to_num(torch.inf))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("slices", [1, 2, 3])
def test_gradients_in_bfloat16_are_those_of_float32(kernel, slices):
    assert error(conv_type(3), kernel, (slices, 6, 6)) < 0.1


@pytest.mark.parametrize("size", [(3, 6, 6), (4, 6, 6), (5, 1, 2), (6, 1, 6), (6, 6, 2)])
@pytest.mark.parametrize(("kernel", "options"), [((5, 5, 5), {}), ((3, 3, 3), {"stride": 2})])
def test_so_are_those_of_large_kernels_and_strides(kernel, options, size):
    assert error(conv_type(3), kernel, size, **options) < 0.1


@pytest.mark.parametrize("size", [(6, 1), (1, 1), (2, 1), (1, 6)])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5)])
def test_so_are_those_of_thin_maps_in_2d(kernel, size):
    assert error(conv_type(2), kernel, size, stride=2) < 0.1


def test_the_convolutions_of_a_network_from_elsewhere_are_replaced_and_keep_their_weights():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.Conv3d(1, 2, 3)), nn.Conv1d(1, 2, 3))
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    with_safe_convolutions(network)
    assert [type(m) for m in (network[0], network[1][0], network[2])] == [SafeConv2d, SafeConv3d, nn.Conv1d]
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_torch_still_needs_the_detour():
    """Remove `SafeConv3d` when this fails on a CPU with AVX512-BF16 and without AMX; others compute it right."""
    wrong = torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()
    assert (error(nn.Conv3d, (3, 3, 3), (2, 6, 6)) > 0.1) == wrong


def test_the_output_is_that_of_an_ordinary_convolution():
    torch.manual_seed(0)
    safe, x = SafeConv3d(3, 4, 3, padding=1), torch.randn(1, 3, 2, 5, 5)
    plain = nn.Conv3d(3, 4, 3, padding=1)
    plain.load_state_dict(safe.state_dict())
    torch.testing.assert_close(safe(x), plain(x))
