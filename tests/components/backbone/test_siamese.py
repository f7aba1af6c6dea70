from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cphloc.components.backbone.siamese import Siamese
from cphloc.errors import InputError


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("join", ["difference", "concatenate"])
def test_both_scans_pass_the_same_network_alone(dims, join):
    torch.manual_seed(0)
    backbone = Siamese(4, dims, join=join, widths=[3, 5])
    now, prior = torch.randn(2, 2, 2, *(8,) * dims)
    joined = backbone(torch.cat([now, prior], 1))
    for level, x, a, b in zip(backbone.levels, joined, backbone.encoder(now), backbone.encoder(prior), strict=True):
        assert_close(x, torch.cat([a, a - b if join == "difference" else b], 1))
        assert x.shape[1:] == (level.channels, *level.size((8,) * dims))


@pytest.mark.parametrize("dims", [2, 3])
def test_without_change_the_difference_is_zero(dims):
    scan = torch.randn(1, 1, *(8,) * dims)
    for x in Siamese(2, dims, widths=[3, 5])(torch.cat([scan, scan], 1)):
        assert not x.chunk(2, 1)[1].any()


def test_an_odd_number_of_channels_is_refused():
    with pytest.raises(InputError, match="even number"):
        Siamese(3, 2)
