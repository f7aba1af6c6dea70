from __future__ import annotations

import pytest
import torch
from monai.networks.nets.mednext import MedNeXt
from torch.testing import assert_close

from cphloc.components.backbone.monai_mednext import MonaiMedNeXt


@pytest.mark.parametrize("dims", [2, 3])
def test_gives_what_monais_encoder_gives(dims):
    """The maps that a hook sees in MONAI's whole network with the same weights."""
    backbone = MonaiMedNeXt(1, dims, filters=4, blocks=[1, 2, 1], expansion=[2, 3, 4])
    blocks = {"blocks_down": (1, 2), "blocks_bottleneck": 1, "blocks_up": (1, 1)}
    network = MedNeXt(dims, 4, 1, **blocks, kernel_size=3, use_residual_connection=True)
    network.stem, network.bottleneck = backbone.stem, backbone.stages[-1]
    network.enc_stages, network.down_blocks = backbone.stages[:-1], backbone.shrink[1:]
    seen = []
    for stage in (*network.enc_stages, network.bottleneck):
        stage.register_forward_hook(lambda *given: seen.append(given[-1]))
    x = torch.randn(1, 1, *(16,) * dims)
    network(x)
    expected = list(seen)
    for features, wanted, level in zip(backbone(x), expected, backbone.levels, strict=True):
        assert_close(features, wanted)
        assert features.shape == (1, level.channels, *level.size((16,) * dims))
