"""Checkpointed blocks: the same losses, gradients and running statistics, with less memory."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.backbone.residual_encoder import ResidualEncoder
from cphloc.components.backbone.timm import Timm
from cphloc.components.head.semantic_fpn import SemanticFPN
from cphloc.components.head.unet import UNet
from cphloc.modeling.model import Model
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.training.gradient_checkpointing import checkpoint_blocks

SIZES = {2: (32, 32), 3: (16, 16, 16)}


def models(dims):
    plain = ConvEncoder(1, dims, widths=[4, 8, 8], norm="batch")
    yield Model(plain, None, {"mask": UNet(plain.levels, ["a"], norm="batch")})
    residual = ResidualEncoder(1, dims, widths=[4, 8, 8])
    yield Model(residual, None, {"mask": UNet(residual.levels, ["a"])})
    timm = Timm(1, dims, name="test_resnet", out_indices=[0, 1, 2])
    yield Model(timm, None, {"mask": SemanticFPN(timm.levels, ["a"], channels=8)})


def step(model, dims):
    """Loss and gradients of two images, and the buffers afterwards."""
    torch.manual_seed(1)
    image = torch.randn(2, 1, *SIZES[dims])
    mask = np.zeros(SIZES[dims], np.uint8)
    mask[(slice(4, 12),) * dims] = 1
    targets = Targets.collate([Annotation(mask=mask), Annotation(mask=mask)], SIZES[dims], 1)
    loss = model.train().loss(model.outputs(image), targets)["loss"]
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return loss.detach(), gradients, {name: b.clone() for name, b in model.named_buffers()}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("number", [0, 1, 2], ids=["plain with batch norm", "residual", "timm"])
def test_gradients_and_running_statistics_are_the_same(dims, number):
    torch.manual_seed(0)
    model = list(models(dims))[number]
    other = copy.deepcopy(model)
    assert checkpoint_blocks(other) >= 3
    assert list(other.state_dict()) == list(model.state_dict())
    (loss, gradients, buffers), (loss_other, gradients_other, buffers_other) = step(model, dims), step(other, dims)
    torch.testing.assert_close(loss_other, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_other[name], gradient, msg=name)
    for name, buffer in buffers.items():
        torch.testing.assert_close(buffers_other[name], buffer, msg=name)


def peak_bytes(model, dims):
    """Largest number of bytes that torch has allocated at a time during forward and backward pass."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step(model, dims)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]))


@pytest.mark.parametrize("dims", [2, 3])
def test_less_memory_is_needed(dims):
    encoder = ResidualEncoder(1, dims, widths=[8, 16], blocks=[4, 4])
    model = Model(encoder, None, {"mask": UNet(encoder.levels, ["a"])})
    other = copy.deepcopy(model)
    checkpoint_blocks(other)
    assert peak_bytes(other, dims) < 0.7 * peak_bytes(model, dims)


def test_nothing_changes_without_gradients():
    encoder = ConvEncoder(1, 2, widths=[4, 8])
    model = Model(encoder, None, {"mask": UNet(encoder.levels, ["a"])}).eval()
    other = copy.deepcopy(model)
    checkpoint_blocks(other)
    image = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        assert torch.equal(other(image), model(image))
