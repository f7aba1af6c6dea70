from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from cphloc.ops.inflate import inflate, with_input_channels


@pytest.fixture
def slice_and_weight():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, 6, 6, generator=draw), torch.randn(4, 3, 3, 3, generator=draw)


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_average_inflation_reproduces_the_slice_inside_a_boring_volume(slice_and_weight, depth):
    x, weight = slice_and_weight
    boring = x[:, :, None].expand(-1, -1, 9, -1, -1)
    out = functional.conv3d(boring, inflate(weight, depth), padding=(depth // 2, 1, 1))
    expected = functional.conv2d(x, weight, padding=1)
    inside = slice(depth // 2, 9 - depth // 2)
    assert_close(out[:, :, inside], expected[:, :, None].expand_as(out[:, :, inside]), atol=1e-5, rtol=1e-5)


def test_average_inflation_loses_a_third_at_a_zero_padded_border(slice_and_weight):
    x, weight = slice_and_weight
    boring = x[:, :, None].expand(-1, -1, 9, -1, -1)
    out = functional.conv3d(boring, inflate(weight, 3), padding=1)
    assert_close(out[:, :, 0], functional.conv2d(x, weight, padding=1) * 2 / 3, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_centre_inflation_reproduces_the_slice_everywhere(slice_and_weight, depth):
    x, weight = slice_and_weight
    boring = x[:, :, None].expand(-1, -1, 9, -1, -1)
    out = functional.conv3d(boring, inflate(weight, depth, "centre"), padding=(depth // 2, 1, 1))
    assert_close(out, functional.conv2d(x, weight, padding=1)[:, :, None].expand_as(out), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_an_image_copied_into_all_channels_gives_what_it_gave_in_colour(slice_and_weight, channels):
    x, weight = slice_and_weight
    grey = x[:, :1]
    out = functional.conv2d(grey.expand(-1, channels, -1, -1), with_input_channels(weight, channels))
    assert_close(out, functional.conv2d(grey.expand(-1, 3, -1, -1), weight), atol=1e-5, rtol=1e-5)
