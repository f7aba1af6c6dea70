from __future__ import annotations

import numpy as np
import pytest
import torch
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from smp_decoders import CHANNELS, assert_equal, features, levels, randomize, take_weights
from torch.nn import functional
from torch.testing import assert_close

from cphloc.components.head.semantic_fpn import SemanticFPN
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

STRIDES = [((2, 2), (4, 4), (8, 8)), ((1, 2, 2), (1, 4, 4), (2, 8, 8))]


def head_and_pyramid(strides, size):
    torch.manual_seed(0)
    levels = tuple(Level(4 + i, stride) for i, stride in enumerate(strides))
    pyramid = tuple(torch.randn(2, level.channels, *level.size(size)) for level in levels)
    return SemanticFPN(levels, classes=["a", "b"], channels=8, norm="none"), pyramid


@pytest.mark.parametrize("strides", STRIDES)
def test_scores_every_voxel_and_every_parameter_learns(strides):
    size = (16,) * len(strides[0])
    head, pyramid = head_and_pyramid(strides, size)
    logits = head(pyramid)
    assert logits.shape == (2, 3, *size)
    assert_close(head.decode(logits).mask_probabilities.sum(1), torch.ones(2, *size))
    mask = np.zeros(size, np.uint8)
    mask[(slice(2, 9),) * len(size)] = 1
    head.loss(logits, Targets.collate([Annotation(mask=mask), Annotation()], size, 2))["mask"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert all(p.grad.abs().max() > 0 for p in head.paths.parameters())


@pytest.mark.parametrize("strides", STRIDES)
def test_levels_are_added_after_each_went_its_own_way(strides):
    head, pyramid = head_and_pyramid(strides, (16,) * len(strides[0]))
    zeros = [torch.zeros_like(x) for x in pyramid]
    whole, nothing = head(pyramid), head(tuple(zeros))
    parts = [head(tuple(pyramid[i] if i == j else zeros[i] for i in range(3))) - nothing for j in range(3)]
    assert_close(whole - nothing, sum(parts), atol=1e-4, rtol=1e-4)


def test_coarser_levels_take_one_convolution_per_step():
    head, _ = head_and_pyramid(STRIDES[0], (16, 16))
    assert [len(path) for path in head.paths] == [1, 1, 2]


@pytest.mark.parametrize("dims", [2, 3])
def test_with_top_down_sums_it_is_the_decoder_of_smps_fpn(dims, monkeypatch):
    """smp up-samples with corners aligned, here edges are; smp's pyramid is summed here by hand."""
    decoder = randomize(FPNDecoder(CHANNELS, pyramid_channels=16, segmentation_channels=256))
    top_down = randomize(FPNDecoder(CHANNELS, pyramid_channels=16, segmentation_channels=256))
    fine = tuple(Level(16, level.stride) for level in levels(dims, finest=4))
    head = SemanticFPN(fine, ["a"], channels=256)
    take_weights(zip(head.paths, reversed(decoder.seg_blocks), strict=True))
    interpolate = functional.interpolate

    def edges(x, *size, align_corners=None, **given):
        return interpolate(x, *size, align_corners=align_corners and False, **given)

    monkeypatch.setattr("segmentation_models_pytorch.decoders.fpn.decoder.F.interpolate", edges)
    with torch.no_grad():
        c2, c3, c4, c5 = features()[2:]
        p5 = top_down.p5(c5)
        p4 = top_down.p4(p5, c4)
        p3 = top_down.p3(p4, c3)
        pyramid = [top_down.p2(p3, c2), p3, p4, p5]
        expected = decoder(features())
    assert_equal(head, dims, pyramid, expected)
