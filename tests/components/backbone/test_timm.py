from __future__ import annotations

import pytest
import timm
import torch
from torch.testing import assert_close

from cphloc.components.backbone.timm import Timm
from cphloc.errors import InputError

TINY = "mobilenetv3_small_050"


@pytest.mark.parametrize(("dims", "slice_stride"), [(2, None), (3, None), (3, 4)])
def test_levels_say_what_forward_gives_and_every_parameter_gets_a_gradient(dims, slice_stride):
    backbone = Timm(1, dims, TINY, slice_stride=slice_stride)
    size = (32,) * dims if slice_stride is None else (8, 64, 64)
    pyramid = backbone(torch.randn(2, 1, *size))
    for level, features in zip(backbone.levels, pyramid, strict=True):
        assert features.shape == (2, level.channels, *level.size(size))
    sum(features.square().mean() for features in pyramid).backward()
    assert all(p.grad is not None for p in backbone.parameters())


@pytest.mark.parametrize(
    "name",
    ["pvt_v2_b0", "swin_tiny_patch4_window7_224", "convnext_atto", "vit_tiny_patch16_224", "maxvit_rmlp_pico_rw_256"],
)
def test_transformers_give_channels_first_for_images_of_another_size_than_they_were_made_for(name):
    backbone = Timm(1, 2, name).eval()
    size = (256, 256) if name.startswith("maxvit") else (64, 96)
    with torch.no_grad():
        pyramid = backbone(torch.randn(1, 1, *size))
    assert [tuple(x.shape) for x in pyramid] == [(1, level.channels, *level.size(size)) for level in backbone.levels]


@pytest.mark.parametrize("name", [TINY, "tf_efficientnet_lite0", "resnet10t"])
def test_chosen_stages_only_and_none_behind_them(name):
    backbone = Timm(1, 2, name, out_indices=[0, 2])
    assert [level.stride for level in backbone.levels] == [(2, 2), (8, 8)]
    coarse = backbone(torch.randn(2, 1, 32, 32))[-1]
    coarse.square().mean().backward()
    assert all(p.grad is not None for p in backbone.parameters())


def parameters_of(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "whole", "features"),
    [("resnet18", 11_689_512, 512), ("resnet34", 21_797_672, 512), ("resnet50", 25_557_032, 2048)],
)
def test_resnets_have_the_published_number_of_parameters_less_their_thousand_classes(name, whole, features):
    with torch.device("meta"):
        backbone = Timm(3, 2, name)
    assert parameters_of(backbone) + (features + 1) * 1000 == whole


def test_an_inflated_resnet18_is_torchvisions_r3d18_but_for_its_deeper_stem():
    with torch.device("meta"):
        body = Timm(3, 3, "resnet18").body
    classifier, stem = (512 + 1) * 400, 64 * 3 * 3 * 7 * 7
    assert parameters_of(body) - body.conv1.weight.numel() == 33_371_472 - classifier - stem


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory) -> tuple[str, dict[str, torch.Tensor]]:
    torch.manual_seed(3)
    state = timm.create_model(TINY).state_dict()
    path = tmp_path_factory.mktemp("weights") / "renamed.pth"
    torch.save({f"layer{i}": value for i, value in enumerate(state.values())}, path)
    return str(path), state


def test_weights_under_other_names_load_in_order(weights_file, caplog):
    path, state = weights_file
    loaded = Timm(3, 2, TINY, weights=path).body.state_dict()
    assert len(loaded) > 100
    assert not caplog.records, "that the classifier finds no place is no news"
    for name, value in loaded.items():
        assert_close(value, state[name], rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_image_copied_into_all_channels_gives_what_it_gives_in_colour(weights_file, channels):
    path, _ = weights_file
    grey = torch.randn(1, 1, 32, 32)
    other, colour = (Timm(c, 2, TINY, weights=path).eval() for c in (channels, 3))
    with torch.no_grad():
        for a, b in zip(other(grey.expand(-1, channels, -1, -1)), colour(grey.expand(-1, 3, -1, -1)), strict=True):
            assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_volume_starts_as_the_pretrained_network_on_every_slice(weights_file):
    path, _ = weights_file
    x = torch.randn(1, 1, 64, 64)
    flat, deep = Timm(1, 2, TINY, weights=path).eval(), Timm(1, 3, TINY, weights=path, slice_stride=1).eval()
    with torch.no_grad():
        for a, b in zip(flat(x), deep(x[:, :, None].expand(-1, -1, 3, -1, -1)), strict=True):
            assert_close(b, a[:, :, None].expand_as(b), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("dims", "arguments", "message"),
    [
        (2, {"name": "resnet81"}, "did you mean"),
        (2, {"name": TINY, "slice_stride": 2}, "has no slices"),
        (2, {"name": TINY, "pretrained": True, "weights": "w.pth"}, "not both"),
        (2, {"name": TINY, "out_indices": [9]}, "out_indices"),
        (3, {"name": TINY, "slice_stride": 3}, "does not divide"),
        (3, {"name": "vit_tiny_patch16_224"}, "cannot be inflated"),
        (3, {"name": "pvt_v2_b0"}, "cannot be inflated"),
        (3, {"name": "convnextv2_atto"}, "GlobalResponseNorm"),
    ],
)
def test_what_cannot_be_built_says_why(dims, arguments, message):
    with pytest.raises(InputError, match=message):
        Timm(1, dims, **arguments)


def test_weights_of_another_model_are_refused(weights_file):
    with pytest.raises(InputError, match="use weights of the same model"):
        Timm(1, 2, "resnet10t", weights=weights_file[0])
