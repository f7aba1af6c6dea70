from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from cphloc.components.backbone.parallel_conv import ParallelConvolutions
from cphloc.ops.layers import conv_type


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_each_window_size_is_a_convolution_of_its_own(dims):
    backbone = ParallelConvolutions(2, dims, kernels=[2, 3], filters=4)
    x = torch.randn(3, 2, *(6, 5, 7)[:dims])
    (features,) = backbone(x)
    assert features.shape == (3, 8, *x.shape[2:])
    for number, size in enumerate((2, 3)):
        own = conv_type(dims)(2, 4, size)
        own.load_state_dict(backbone.windows[number].state_dict())
        inside = (..., *[slice((size - 1) // 2, n - size // 2) for n in x.shape[2:]])
        assert_close(features[:, 4 * number : 4 * number + 4][inside], own(x).relu())


def test_the_text_cnn_of_the_paper():
    """Kim 2014, arXiv:1408.5882: 3 x 100 features; moving a pair of words changes nothing, nor does padding."""
    backbone = ParallelConvolutions(300, 1)
    with torch.no_grad():
        for window in backbone.windows:
            window.bias.zero_()
    words = torch.zeros(1, 300, 30)
    words[..., 8:10] = torch.randn(300, 2)
    greatest = backbone(words)[0].amax(2)
    assert greatest.shape == (1, 300)
    assert_close(backbone(words.roll(9, 2))[0].amax(2), greatest)
    assert_close(backbone(functional.pad(words, (0, 12)))[0].amax(2), greatest)
    short = words[..., 8:10]
    assert backbone(short)[0].shape == (1, 300, 2)
    assert_close(backbone(functional.pad(short, (4, 4)))[0].amax(2), greatest)
