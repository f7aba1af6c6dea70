from __future__ import annotations

import pytest
import torch
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from smp_decoders import CHANNELS, assert_equal, features, levels, randomize, take_weights

from cphloc.components.head.segformer import SegFormer


@pytest.mark.parametrize("dims", [2, 3])
def test_equals_smp_of_an_encoder_that_starts_at_stride_4(dims):
    decoder = randomize(SegformerDecoder([3, 0, *CHANNELS[2:]], segmentation_channels=16))
    head = SegFormer(levels(dims, finest=4), ["a"], channels=16, norm="batch")
    pairs = list(zip(reversed(head.projections), decoder.mlp_stage, strict=True))
    take_weights([*pairs, (head.mix, decoder.fuse_stage)])
    maps = features()
    maps[1] = maps[1][:, :0]
    with torch.no_grad():
        expected = decoder(maps)
    assert_equal(head, dims, 4, expected)
