from __future__ import annotations

import pytest
import torch
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from smp_decoders import CHANNELS, assert_equal, features, levels, randomize, take_weights
from torch.nn import functional
from torch.testing import assert_close

from cphloc.components.head.upernet import UPerNet
from cphloc.ops.layers import pool_to


@pytest.mark.parametrize("dims", [2, 3])
def test_equals_smp(dims):
    decoder = randomize(UPerNetDecoder(CHANNELS, decoder_channels=16))
    head = UPerNet(levels(dims, finest=4), ["a"], channels=16, norm="batch")
    pairs = [*zip(head.entry, decoder.feature_norms, strict=True)]
    pairs += [(ours, theirs[1]) for ours, theirs in zip(head.pooled, decoder.psp.blocks, strict=True)]
    pairs += [(head.context, decoder.psp.out_conv), (head.fuse, decoder.fusion_block)]
    pairs += zip(reversed(head.lateral), decoder.fpn_lateral_blocks, strict=True)
    pairs += zip(reversed(head.smooth), decoder.fpn_conv_blocks, strict=True)
    take_weights(pairs)
    with torch.no_grad():
        expected = decoder(features())
    assert_equal(head, dims, 4, expected)


@pytest.mark.parametrize("size", [(7, 4), (5, 9, 3)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_pooling_to_bins_is_that_of_torch(size, bins):
    x = torch.randn(2, 3, *size)
    expected = {2: functional.adaptive_avg_pool2d, 3: functional.adaptive_avg_pool3d}[len(size)](x, bins)
    assert_close(pool_to(x, bins), expected)
