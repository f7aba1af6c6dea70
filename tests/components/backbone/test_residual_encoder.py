import pytest
import torch
from torch import nn

from cphloc.components.backbone.residual_encoder import ResidualEncoder
from cphloc.components.head.unet import UNet
from cphloc.errors import InputError
from cphloc.structures.levels import Level


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def filled(module: nn.Module) -> nn.Module:
    """The module with weights drawn in the order of its parameters, by which the reference was filled as well."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    return module


@pytest.mark.parametrize(("dims", "encoder", "decoder"), [(2, 63_763_552, 8_035_183), (3, 90_284_320, 12_052_399)])
def test_parameters_of_the_resenc_unet_are_those_of_dynamic_network_architectures(dims, encoder, decoder):
    """Counts of ``ResidualEncoderUNet`` 0.4.4: six stages, blocks 1 3 4 6 6 6, decoder 1, ``conv_bias=False``."""
    top = {2: 512, 3: 320}[dims]
    with torch.device("meta"):
        backbone = ResidualEncoder(1, dims, [32, 64, 128, 256, top, top])
        head = UNet(backbone.levels, ["a", "b"], convolutions=1)
    assert count(backbone) == encoder
    biases_of_up_sampling = 32 + 64 + 128 + 256 + top
    unused_scores_of_the_coarsest_level = (top + 1) * 3
    assert count(head) == decoder + biases_of_up_sampling - unused_scores_of_the_coarsest_level


@pytest.mark.parametrize(
    ("dims", "expected"),
    [
        (2, [0.0931675136089325, 0.3076343238353729, 0.34197553992271423]),
        (3, [0.09935080260038376, 0.317280650138855, 0.24566861987113953]),
    ],
)
def test_the_maps_are_those_of_dynamic_network_architectures(dims, expected):
    """Means of the absolute maps of its ``ResidualEncoder`` 0.4.4, filled with the same weights."""
    strides, kernels = [1, [1, 2, 2][-dims:], 2], [[1, 3, 3][-dims:], 3, 3]
    encoder = filled(ResidualEncoder(1, dims, [4, 6, 8], strides=strides, kernels=kernels))
    size = [4, 8, 8][-dims:]
    image = torch.linspace(-1, 1, torch.Size(size).numel()).sin().reshape(1, 1, *size)
    assert [x.abs().mean().item() for x in encoder(image)] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("dims", "top"), [(2, 512), (3, 320)])
def test_defaults_are_nnunets_plan(dims, top):
    with torch.device("meta"):
        encoder = ResidualEncoder(1, dims)
        deep = ResidualEncoder(1, dims, [2] * 7)
    assert [level.channels for level in encoder.levels] == [32, 64, 128, 256, top]
    assert [len(stage) for stage in deep.stages] == [1, 3, 4, 6, 6, 6, 6]


@pytest.mark.parametrize("dims", [2, 3])
def test_levels_describe_what_forward_gives_for_odd_sizes(dims):
    encoder = ResidualEncoder(2, dims, [4, 6, 8], strides=[1, [1, 2, 2][-dims:], 2])
    size = (19, 24, 17)[-dims:]
    pyramid = encoder(torch.randn(1, 2, *size))
    assert [(1, level.channels, *level.size(size)) for level in encoder.levels] == [tuple(x.shape) for x in pyramid]
    assert encoder.levels[-1] == Level(8, (2, 4, 4)[-dims:])


@pytest.mark.parametrize("given", ["blocks", "strides", "kernels"])
def test_a_wrong_number_is_named(given):
    with pytest.raises(InputError, match=f"2 widths but 3 {given}"):
        ResidualEncoder(1, 2, [4, 8], **{given: [1, 2, 2]})
