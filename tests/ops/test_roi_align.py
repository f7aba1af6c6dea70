from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from scipy.ndimage import map_coordinates
from torch.testing import assert_close

from cphloc.ops.roi_align import pyramid_roi_align, roi_align
from cphloc.structures.levels import Level


def test_bins_of_a_ramp_have_the_asserted_values():
    ramp = torch.arange(25.0).reshape(1, 1, 5, 5)
    expected = torch.tensor([[4.5, 5, 5.5, 6], [7, 7.5, 8, 8.5], [9.5, 10, 10.5, 11], [12, 12.5, 13, 13.5]])
    assert_close(roi_align(ramp, [torch.tensor([[1.0, 1, 3, 3]])], (1, 1), (4, 4))[0, 0], expected)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_equals_torchvision_in_2d_even_beyond_the_border(samples):
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 9, 13, generator=draw)
    lo = torch.rand(2, 8, 2, generator=draw) * 60 - 20
    boxes = list(torch.cat([lo, lo + torch.rand(2, 8, 2, generator=draw) * 40 + 0.1], dim=2))
    expected = torchvision.ops.roi_align(features, [b[:, [1, 0, 3, 2]] for b in boxes], (3, 4), 0.25, samples, True)
    assert_close(roi_align(features, boxes, (4, 4), (3, 4), samples), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_a_linear_function_is_read_exactly_at_the_bin_centres(dims, samples):
    slope, stride = torch.tensor([2.0, -3.0, 0.5])[:dims], (2.0, 4.0, 4.0)[:dims]
    axes = torch.meshgrid(*[(torch.arange(8) + 0.5) * s for s in stride], indexing="ij")
    features = sum(a * s for a, s in zip(axes, slope, strict=True))[None, None] + 7
    box = torch.tensor([3.0, 5.0, 6.0][:dims] + [9.0, 17.0, 20.0][:dims])
    size = (2, 3, 4)[:dims]
    centres = torch.meshgrid(
        *[lo + (torch.arange(n) + 0.5) / n * (hi - lo) for lo, hi, n in zip(box[:dims], box[dims:], size, strict=True)],
        indexing="ij",
    )
    expected = sum(c * s for c, s in zip(centres, slope, strict=True)) + 7
    assert_close(roi_align(features, [box[None]], stride, size, samples)[0, 0], expected)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_bins_are_means_of_scipys_samples_also_beyond_the_border(dims, samples):
    rng = np.random.default_rng(dims)
    features, size = rng.normal(size=(2, *(6, 5, 7)[:dims])).astype(np.float32), (2, 3, 2)[:dims]
    low = rng.uniform(-4, 10, (9, dims))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 9, (9, dims))], axis=1).astype(np.float32)
    found = roi_align(torch.from_numpy(features)[None], [torch.from_numpy(boxes)], (2.0,) * dims, size, samples)
    for box, pooled in zip(boxes / 2, found, strict=True):
        at = [
            lo + (hi - lo) * (np.arange(n * samples) + 0.5) / (n * samples)
            for lo, hi, n in zip(box[:dims], box[dims:], size, strict=True)
        ]
        points = np.stack(np.meshgrid(*at, indexing="ij"))
        extent = np.reshape(features.shape[1:], (dims, *[1] * dims))
        inside = ((points >= -0.5) & (points <= extent + 0.5)).all(axis=0)
        for channel, values in zip(features, pooled, strict=True):
            expected = map_coordinates(channel, points - 0.5, order=1, mode="nearest") * inside
            for axis, n in enumerate(size):
                expected = expected.reshape(*size[:axis], n, samples, *expected.shape[axis + 1 :]).mean(axis=axis + 1)
            assert_close(values.numpy(), expected.astype(np.float32), atol=1e-5, rtol=1e-5)


def test_a_slab_of_one_slice_equals_two_dimensions():
    features = torch.randn(1, 2, 7, 9, generator=torch.Generator().manual_seed(0))
    flat = roi_align(features, [torch.tensor([[1.0, 2, 5, 8]])], (1, 1), (3, 3))
    deep = roi_align(features[:, :, None], [torch.tensor([[0.0, 1, 2, 1, 5, 8]])], (1, 1, 1), (1, 3, 3))
    assert_close(deep[:, :, 0], flat)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_box_of_the_whole_image_equals_adaptive_pooling(dims):
    features = torch.randn(1, 2, *[8] * dims, generator=torch.Generator().manual_seed(0))
    pool = (torch.nn.AdaptiveAvgPool2d, torch.nn.AdaptiveAvgPool3d)[dims - 2](4)
    whole = torch.tensor([[0.0] * dims + [8.0] * dims])
    assert_close(roi_align(features, [whole], (1,) * dims, (4,) * dims, samples=2), pool(features))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_without_volume_gives_zeros_and_no_gradient(dims):
    features = torch.ones(1, 2, *[5] * dims, requires_grad=True)
    pooled = roi_align(features, [torch.full((1, 2 * dims), 2.0)], (1,) * dims, (2,) * dims)
    pooled.sum().backward()
    assert pooled.abs().sum() == 0
    assert features.grad.abs().sum() == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_no_boxes_give_an_empty_result_with_a_graph(dims):
    features = torch.ones(2, 3, *[5] * dims, requires_grad=True)
    pooled = roi_align(features, [torch.zeros(0, 2 * dims)] * 2, (1,) * dims, (7,) * dims)
    assert pooled.shape == (0, 3, *[7] * dims)
    pooled.sum().backward()


@pytest.mark.parametrize("dims", [2, 3])
def test_the_gradient_is_that_of_finite_differences(dims):
    features = torch.randn(1, 1, *[4] * dims, dtype=torch.float32, requires_grad=True)
    box = [torch.tensor([[0.3] * dims + [3.1] * dims])]

    def pooled(x):
        return roi_align(x, box, (1,) * dims, (2,) * dims)

    assert torch.autograd.gradcheck(pooled, features, eps=1e-2, atol=1e-2)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_pyramid_is_read_level_by_level_in_the_order_of_the_boxes(dims):
    levels = tuple(Level(1, (s,) * dims) for s in (1, 2))
    pyramid = (torch.full((2, 1, *[32] * dims), 1.0), torch.full((2, 1, *[16] * dims), 2.0))
    small, large = [0.0] * dims + [4.0] * dims, [0.0] * dims + [30.0] * dims
    boxes = [torch.tensor([large, small]), torch.tensor([small, large, small])]
    pooled = pyramid_roi_align(pyramid, levels, boxes, (2,) * dims)
    assert pooled.flatten(1).mean(dim=1).tolist() == [2, 1, 1, 2, 1]
