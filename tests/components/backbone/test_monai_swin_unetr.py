from __future__ import annotations

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from torch.testing import assert_close

from cphloc.components.backbone.monai_swin_unetr import MonaiSwinUNETR
from cphloc.errors import InputError


@pytest.mark.parametrize("dims", [2, 3])
def test_gives_the_skips_of_monais_network(dims):
    torch.manual_seed(0)
    settings = {"depths": (1, 1, 1, 1), "heads": (1, 1, 1, 1), "window": 2}
    backbone = MonaiSwinUNETR(1, dims, filters=12, **settings).eval()
    network = SwinUNETR(1, 2, feature_size=12, depths=(1,) * 4, num_heads=(1,) * 4, window_size=2, spatial_dims=dims)
    network.eval()
    network.swinViT, network.encoder1 = backbone.body, backbone.finest
    network.encoder2, network.encoder3, network.encoder4 = backbone.refine[:3]
    network.encoder10 = backbone.refine[4]
    entering = []
    for block in (network.decoder5, network.decoder4, network.decoder3, network.decoder2, network.decoder1):
        block.register_forward_pre_hook(lambda _, given: entering.append(given))
    x = torch.randn(1, 1, *(64,) * dims)
    with torch.no_grad():
        network(x)
        pyramid = backbone(x)
    expected = [given[1] for given in reversed(entering)] + [entering[0][0]]
    for features, wanted, level in zip(pyramid, expected, backbone.levels, strict=True):
        assert_close(features, wanted)
        assert features.shape == (1, level.channels, *level.size((64,) * dims))


def test_filters_that_the_heads_cannot_share_are_refused():
    with pytest.raises(InputError, match="multiple of 12"):
        MonaiSwinUNETR(1, 2, filters=16)
