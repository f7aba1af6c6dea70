from __future__ import annotations

import sys

import pytest
import torch
from monai.networks.nets import SegResNet
from torch.testing import assert_close

from cphloc.components.backbone.monai_segresnet import MonaiSegResNet
from cphloc.errors import InputError, MissingExtraError


@pytest.mark.parametrize("dims", [2, 3])
def test_gives_what_monais_encoder_gives(dims):
    backbone = MonaiSegResNet(1, dims, filters=8, blocks=[1, 1, 2])
    network = SegResNet(dims, 8, 1, blocks_down=(1, 1, 2), blocks_up=(1, 1))
    network.convInit, network.down_layers = backbone.stem, backbone.stages
    size = (16,) * dims
    x = torch.randn(1, 1, *size)
    pyramid = backbone(x)
    for features, expected, level in zip(pyramid, network.encode(x)[1], backbone.levels, strict=True):
        assert_close(features, expected)
        assert features.shape == (1, level.channels, *level.size(size))


def test_missing_monai_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets.segresnet", None)
    with pytest.raises(MissingExtraError, match=r"cphloc\[monai\]"):
        MonaiSegResNet(1, 2)


def test_filters_that_cannot_be_grouped_are_refused():
    with pytest.raises(InputError, match="multiple of 8"):
        MonaiSegResNet(1, 2, filters=12)
