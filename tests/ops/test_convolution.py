"""Rows 1 to 6 of the lecture's recap: what convolutions, kernels and pooling compute, and what they are blind to."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.gap import GlobalAveragePool

EDGE = torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]])
SHARPEN = torch.tensor([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]])


def naive_convolution(x, weight, bias, stride, padding, dilation, groups):
    """``y[o, i] = b_o + sum_cu W[o, c, u] x[c, s i + d u - p]``, one number at a time."""
    channels_out, per_group, height, width = weight.shape
    x = functional.pad(x, (padding,) * 4)
    rows, columns = (
        (n - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(x.shape[1:], (height, width), strict=True)
    )
    y = torch.zeros(channels_out, rows, columns)
    for o, i, j in itertools.product(range(channels_out), range(rows), range(columns)):
        first = o // (channels_out // groups) * per_group
        y[o, i, j] = bias[o] + sum(
            weight[o, c, u, v] * x[first + c, stride * i + dilation * u, stride * j + dilation * v]
            for c, u, v in itertools.product(range(per_group), range(height), range(width))
        )
    return y


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [(1, 1, 0, 1, 1), (3, 1, 1, 1, 1), (3, 2, 1, 1, 2), (2, 2, 0, 1, 1), (3, 1, 2, 2, 2), (5, 3, 2, 1, 1)],
)
def test_a_convolution_is_its_naive_loop(kernel, stride, padding, dilation, groups):
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 2, kernel, stride, padding, dilation, groups)
    x = torch.randn(2, 7, 8)
    with torch.no_grad():
        expected = naive_convolution(x, layer.weight, layer.bias, stride, padding, dilation, groups)
        assert_close(layer(x[None])[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_strided_convolutions_follow_shifts_by_their_stride_only(dims, stride):
    torch.manual_seed(0)
    encoder = ConvEncoder(1, dims, widths=[3], strides=[stride], convolutions=1, norm="none")
    x = torch.zeros(1, 1, *(16,) * dims)
    x[(0, 0, *(slice(6, 9),) * dims)] = torch.rand((3,) * dims)
    answer = encoder(x)[0]
    assert_close(encoder(x.roll(stride, dims=-1))[0], answer.roll(1, dims=-1))
    if stride > 1:
        assert (encoder(x.roll(1, dims=-1))[0].sum() - answer.sum()).abs() > 1e-4


def apply(kernel, image):
    return functional.conv2d(image[None, None], kernel[None, None], padding=1)[0, 0]


def test_the_edge_kernel_is_blind_to_constants_and_writes_itself_at_an_impulse():
    assert EDGE.sum() == 0
    assert torch.equal(apply(EDGE, torch.full((6, 7), 3.0))[1:-1, 1:-1], torch.zeros(4, 5))
    impulse = torch.zeros(5, 5)
    impulse[2, 2] = 1
    assert torch.equal(apply(EDGE, impulse)[1:4, 1:4], EDGE)


def test_the_sharpen_kernel_keeps_constants_and_overshoots_on_both_sides_of_a_step():
    assert SHARPEN.sum() == 1
    assert torch.equal(apply(SHARPEN, torch.full((5, 5), 2.0))[1:-1, 1:-1], torch.full((3, 3), 2.0))
    step = torch.zeros(5, 6)
    step[:, 3:] = 1
    assert apply(SHARPEN, step)[2, 1:5].tolist() == [0, -1, 2, 1]


@pytest.mark.parametrize(("pool", "dims"), [(nn.MaxPool1d, 1), (nn.MaxPool2d, 2), (nn.MaxPool3d, 3)])
def test_max_pooling_pads_with_nothing_and_forgets_the_order_within_a_window(pool, dims):
    x = -1 - torch.rand(1, 1, *(6,) * dims)
    assert pool(3, 2, padding=1)(x).max() < 0, "padding by zeros would win over negative values"
    shuffled = x.clone()
    window = (0, 0, *(slice(2, 4),) * dims)
    shuffled[window] = x[window].flatten().flip(0).view((2,) * dims)
    assert torch.equal(pool(2)(x), pool(2)(shuffled))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_small_cnn_learns_eight_images_by_heart(dims):
    torch.manual_seed(0)
    encoder = ConvEncoder(1, dims, widths=[8, 16], convolutions=1, norm="none", activation="relu")
    head = GlobalAveragePool(encoder.levels, classes=["finding"])
    x, y = torch.randn(8, 1, *(8,) * dims), (torch.arange(8) % 2).float()
    assert encoder(x)[-1].shape == (8, 16, *(4,) * dims)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=2e-2)
    for _ in range(300):
        loss = functional.binary_cross_entropy_with_logits(head(encoder(x)).logits[:, 0], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    assert loss < 0.01
