from __future__ import annotations

import pytest
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from smp_decoders import CHANNELS, WIDTHS, assert_equal, features, levels, randomize, take_weights

from cphloc.components.head.deeplabv3plus import DeepLabV3Plus
from cphloc.errors import InputError


@pytest.mark.parametrize("dims", [2, 3])
def test_equals_smp_with_voxel_edges_aligned(dims):
    """smp up-samples with corners aligned; it dilates its encoder, here the coarsest map has stride 32 in both."""
    decoder = randomize(DeepLabV3PlusDecoder(CHANNELS, 5, 16, (1, 2, 3), 16, True, 0.5))
    decoder.up = torch.nn.Upsample(mode="bilinear", scale_factor=8, align_corners=False)
    head = DeepLabV3Plus(levels(dims), ["a"], channels=16, detail=1, rates=(1, 2, 3), norm="batch")
    aspp, convolution, *after = decoder.aspp
    pairs = list(zip(head.context, aspp.convs, strict=True))
    pairs += [(head.project[0], aspp.project), (head.project[1], torch.nn.Sequential(convolution, *after))]
    take_weights([*pairs, (head.reduce, decoder.block1), (head.fuse, decoder.block2)])
    with torch.no_grad():
        expected = decoder(features())
    assert_equal(head, dims, min(WIDTHS), expected)


def test_details_come_from_a_level_finer_than_the_coarsest():
    with pytest.raises(InputError, match="lower detail"):
        DeepLabV3Plus(levels(2), ["a"], detail=4)
