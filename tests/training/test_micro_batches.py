"""Accumulated micro-batches make the step of the whole batch, for heads of every rung, in 2-D and 3-D."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.attention_pool import AttentionPool
from cphloc.components.head.centernet import CenterNet
from cphloc.components.head.fcos import FCOS
from cphloc.components.head.multi_attention import MultiAttention
from cphloc.components.head.retina import Retina
from cphloc.components.head.unet import UNet
from cphloc.evaluation.validate import Validation
from cphloc.modeling.model import Model
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.training.fit import fit
from cphloc.training.settings import Settings

SIZE = 16


@dataclass
class Batch:
    image: torch.Tensor
    targets: Targets


def annotation(kind, dims):
    low, high = [4.0] * dims, [9.0] * dims
    mask = np.zeros((SIZE,) * dims, np.uint8)
    mask[(slice(4, 9),) * dims] = 1
    half = np.zeros((SIZE,) * dims, np.float32)
    half[..., : SIZE // 2] = 1
    return {
        "mask": Annotation(mask=mask),
        "boxes": Annotation(boxes=np.array([[*low, *high]], np.float32), box_classes=np.array([1])),
        "three boxes": Annotation(
            boxes=np.array([[1.0 + 4 * n] * dims + [5.0 + 4 * n] * dims for n in range(3)], np.float32),
            box_classes=np.ones(3, np.int64),
        ),
        "side": Annotation(region=half, label=np.ones(1, np.float32)),
        "absent": Annotation(label=np.zeros(1, np.float32)),
        "nothing": Annotation(),
    }[kind]


def batches_of(kinds, dims, per_batch):
    def batches(first, rank, ranks):
        number = first * per_batch
        while True:
            chosen = [(number + i) % len(kinds) for i in range(per_batch)]
            image = torch.stack([torch.randn(1, *(SIZE,) * dims, generator=torch.manual_seed(c)) for c in chosen])
            yield Batch(image, Targets.collate([annotation(kinds[c], dims) for c in chosen], (SIZE,) * dims, 1))
            number += per_batch

    return batches


def model_of(head, dims):
    torch.manual_seed(0)
    backbone = ConvEncoder(1, dims=dims, widths=[4, 8])
    return Model(backbone, None, {"head": head(backbone.levels, classes={1: "mass"})}, {"head": 0.5})


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def moved(head, dims, kinds, per_batch, accumulate, folder):
    model = model_of(head, dims)
    before = flat(model)
    rung = {UNet: "mask", AttentionPool: "label", MultiAttention: "label"}.get(head, "boxes")
    settings = Settings(
        steps=1, optimizer={"type": "SGD", "lr": 0.1}, schedule={"type": "constant"}, clip_norm=None, precision="32",
        accumulate=accumulate, best="loss", validate_every=1, rungs={"head": rung},
    )  # fmt: skip
    fit(model, batches_of(kinds, dims, per_batch), lambda model: Validation({"loss": 0.0}), settings, folder)
    return flat(model) - before


@pytest.mark.parametrize(("head", "dims"), [(UNet, 2), (UNet, 3), (AttentionPool, 2), (MultiAttention, 3)])
def test_four_micro_batches_make_the_step_of_one_batch(head, dims, tmp_path):
    kinds = ["mask", "nothing", "boxes", "mask"] if head is UNet else ["mask", "nothing", "side", "absent"]
    check(head, dims, kinds, tmp_path)


@pytest.mark.parametrize(("head", "dims"), [(Retina, 2), (Retina, 3), (FCOS, 2), (CenterNet, 3)])
def test_so_do_boxes_of_pictures_with_many_few_and_no_objects(head, dims, tmp_path):
    check(head, dims, ["three boxes", "nothing", "boxes", "absent"], tmp_path)


def check(head, dims, kinds, folder):
    whole = moved(head, dims, kinds, 4, 1, folder / "whole")
    parts = moved(head, dims, kinds, 1, 4, folder / "parts")
    assert whole.norm() > 1e-4
    assert torch.allclose(parts, whole, atol=1e-3 * float(whole.abs().max()))
