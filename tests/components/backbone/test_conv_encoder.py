import pytest
import torch
from torch import nn

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.errors import InputError
from cphloc.ops.layers import SafeConv2d
from cphloc.structures.levels import Level


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_levels_describe_what_forward_gives(dims, block):
    encoder = ConvEncoder(2, dims, widths=[4, 6, 8], block=block)
    size = (19, 24, 17)[:dims]
    pyramid = encoder(torch.randn(1, 2, *size))
    assert [(1, level.channels, *level.size(size)) for level in encoder.levels] == [tuple(x.shape) for x in pyramid]


def test_strides_are_per_axis_and_accumulate():
    encoder = ConvEncoder(1, 3, widths=[4, 4, 4], strides=[1, [1, 2, 2], 2], kernels=[[1, 3, 3], 3, 3])
    assert encoder.levels == (Level(4, (1, 1, 1)), Level(4, (1, 2, 2)), Level(4, (2, 4, 4)))
    assert encoder.stages[0][0].conv.kernel_size == (1, 3, 3)


def test_the_lecture_encoder_has_stride_four_on_every_axis():
    with torch.device("meta"):
        encoder = ConvEncoder(1, 3, widths=[8, 16], strides=[2, 2])
        features = encoder(torch.empty(1, 1, 200, 512, 512))
    assert features[-1].shape[2:] == (50, 128, 128)
    assert features[-1][0, 0].numel() == 819_200


def test_a_stride_of_one_is_inefficient():
    """A scan of 52 million voxels: 64 channels at stride 1 take 12.5 GiB, 512 at stride 4 take an eighth of that."""
    with torch.device("meta"):
        image = torch.empty(1, 1, 200, 512, 512)
        (fine,) = ConvEncoder(1, 3, widths=[64], strides=[1], convolutions=1)(image)
        (_, coarse) = ConvEncoder(1, 3, widths=[8, 512], strides=[2, 2], convolutions=1)(image)
    assert image.numel() == 52_428_800
    assert [x.numel() * x.element_size() / 2**30 for x in (fine, coarse)] == [12.5, 1.5625]


@pytest.mark.parametrize(("order", "expected"), [("conv-norm-act", "CNA"), ("conv-act-norm", "CAN")])
def test_order_of_convolution_norm_and_activation(order, expected):
    encoder = ConvEncoder(1, 2, widths=[4], convolutions=1, order=order, norm="batch", activation="relu")
    called = []
    letters = {SafeConv2d: "C", nn.BatchNorm2d: "N", nn.ReLU: "A"}
    for module in encoder.modules():
        if type(module) in letters:
            module.register_forward_hook(lambda m, *_: called.append(letters[type(m)]))
    encoder(torch.randn(2, 1, 8, 8))
    assert "".join(called) == expected


@pytest.mark.parametrize("dims", [2, 3])
def test_residual_block_with_a_silent_branch_is_the_identity_after_its_activation(dims):
    encoder = ConvEncoder(4, dims, widths=[4], convolutions=1, block="residual", norm="batch", activation="relu")
    nn.init.zeros_(encoder.stages[0][0].second.norm.weight)
    x = torch.randn(2, 4, *(6, 5, 4)[:dims])
    assert torch.equal(encoder(x)[0], x.relu())


def test_stride_one_everywhere_keeps_the_size():
    encoder = ConvEncoder(1, 2, widths=[4, 4, 4], strides=[1, 1, 1])
    assert {tuple(x.shape[2:]) for x in encoder(torch.randn(1, 1, 13, 9))} == {(13, 9)}


def test_a_wrong_number_of_strides_is_named():
    with pytest.raises(InputError, match="2 widths but 3 strides"):
        ConvEncoder(1, 2, widths=[4, 8], strides=[1, 2, 2])
