from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.testing import assert_close

from cphloc.errors import InputError
from cphloc.ops.inflate_network import SameConv3d, inflate_network, plan_slice_strides

FAMILIES = [
    "resnet18",
    "resnet26d",
    "resnext50_32x4d",
    "regnetx_002",
    "regnety_002",
    "efficientnet_b0",
    "tf_efficientnet_b0",
    "efficientnet_lite0",
    "tf_efficientnet_lite0",
    "mobilenetv3_small_050",
    "tf_mobilenetv3_small_075",
    "convnext_atto",
    "densenet121",
]


def randomized(network: nn.Module) -> nn.Module:
    """Norms that differ from channel to channel, so that one left behind would show."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network


@pytest.mark.parametrize("name", FAMILIES)
def test_boring_volume_gives_the_features_of_its_slice_at_every_slice(name):
    network = randomized(timm.create_model(name, features_only=True, in_chans=1)).eval().double()
    x = torch.randn(1, 1, 64, 64, dtype=torch.double)
    with torch.no_grad():
        flat = network(x)
        inflated = inflate_network(network, "centre", plan_slice_strides(network, 1, 32, 2))
        deep = inflated(x[:, :, None].expand(-1, -1, 4, -1, -1))
    assert [4 // level.shape[2] for level in deep][-2:] == [1, 2]
    for in_2d, in_3d in zip(flat, deep, strict=True):
        assert_close(in_3d, in_2d[:, :, None].expand_as(in_3d), rtol=1e-9, atol=1e-9 * float(in_2d.abs().max()))


def test_average_inflation_is_exact_at_interior_slices_only():
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)).double()
    x = torch.randn(1, 1, 8, 8, dtype=torch.double)
    with torch.no_grad():
        flat = network(x)[:, :, None]
        deep = inflate_network(network, "average", {})(x[:, :, None].expand(-1, -1, 9, -1, -1))
    interior = deep[:, :, 2:-2]
    assert_close(interior, flat.expand_as(interior))
    assert (deep[:, :, :1] - flat).abs().max() > 1e-3


@pytest.mark.parametrize(("total", "strides"), [(32, [2, 4, 8, 16, 32]), (8, [1, 1, 2, 4, 8]), (1, [1, 1, 1, 1, 1])])
def test_first_reductions_spare_the_slices(total, strides):
    network = timm.create_model("resnet10t", features_only=True, in_chans=1).eval()
    inflated = inflate_network(network, "centre", plan_slice_strides(network, 1, 32, total))
    with torch.no_grad():
        deep = inflated(torch.zeros(1, 1, 32, 32, 32))
    assert [32 // level.shape[2] for level in deep] == strides
    assert [32 // level.shape[3] for level in deep] == [2, 4, 8, 16, 32]


def test_patchify_convolution_stays_non_overlapping_along_the_slices():
    layer = nn.Conv2d(1, 4, 4, 4)
    inflated = inflate_network(layer, "average", {layer: 2})
    assert inflated.kernel_size == inflated.stride == (2, 4, 4)


@pytest.mark.parametrize("size", [8, 9])
def test_same_padding_equals_timms_in_the_plane(size):
    flat = timm.layers.create_conv2d(2, 3, 3, stride=2, padding="same")
    deep = inflate_network(flat, "centre", {flat: 1})
    assert isinstance(deep, SameConv3d)
    x = torch.randn(1, 2, size, size + 1)
    with torch.no_grad():
        assert_close(deep(x[:, :, None].expand(-1, -1, 3, -1, -1))[:, :, 1], flat(x))


def test_inflated_norms_keep_evaluation_mode_and_statistics():
    norm = nn.BatchNorm2d(3).eval()
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    inflated = inflate_network(nn.Sequential(norm), "centre", {})
    x = torch.randn(1, 3, 2, 4, 4)
    assert_close(inflated(x), inflated(x))
    assert_close(inflated(x)[:, :, 0], norm(x[:, :, 0]))


@pytest.mark.parametrize("layer", [nn.Upsample(scale_factor=2), nn.ConvTranspose2d(1, 1, 2)])
def test_unknown_layer_is_refused_by_name(layer):
    with pytest.raises(InputError, match=type(layer).__name__):
        inflate_network(nn.Sequential(nn.Conv2d(1, 1, 3), layer), "centre", {})
