import pytest
import torch

from cphloc.components.backbone.timm import Timm
from cphloc.errors import InputError


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("channels", [1, 3])
def test_levels_describe_what_forward_gives(name, channels):
    backbone = Timm(channels, 2, name)
    pyramid = backbone(torch.randn(1, channels, 64, 96))
    assert [(1, level.channels, *level.size((64, 96))) for level in backbone.levels] == [
        tuple(x.shape) for x in pyramid
    ]


def test_out_indices_choose_stages():
    assert [level.stride for level in Timm(3, 2, "resnet10t", out_indices=[2, 3]).levels] == [(8, 8), (16, 16)]


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(InputError, match=r"no model 'resnet10q'; did you mean 'resnet"):
        Timm(3, 2, "resnet10q")
