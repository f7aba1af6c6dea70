"""Losses of coarser outputs, the same for every head that gives masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.deeplabv3plus import DeepLabV3Plus
from cphloc.components.head.fcn import FCN
from cphloc.components.head.manet import MANet
from cphloc.components.head.segformer import SegFormer
from cphloc.components.head.semantic_fpn import SemanticFPN
from cphloc.components.head.unet import UNet
from cphloc.components.head.unetplusplus import UNetPlusPlus
from cphloc.components.head.upernet import UPerNet
from cphloc.components.loss.cross_entropy import CrossEntropy
from cphloc.components.neck.fpn import FPN
from cphloc.modeling.model import Model
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

HEADS = {
    "unet": UNet,
    "semantic_fpn": SemanticFPN,
    "fcn": FCN,
    "unetplusplus": UNetPlusPlus,
    "manet": MANet,
    "deeplabv3plus": DeepLabV3Plus,
    "upernet": UPerNet,
    "segformer": SegFormer,
}
SIZES = {2: (16, 24), 3: (8, 16, 24)}
STRIDES = {
    "unet": [1, 2],
    "semantic_fpn": [1, 2, 4],
    "fcn": [1, 2, 4],
    "unetplusplus": [1, 1, 1],
    "manet": [1, 2],
    "deeplabv3plus": [1, 8],
    "upernet": [1, 2, 4],
    "segformer": [1, 2, 4],
}
"""Strides of the outputs with a loss, of a pyramid of strides 1, 2, 4 and 8; most heads give none to the coarsest."""
ARGUMENTS = {name: {"channels": 8} for name in ("semantic_fpn", "deeplabv3plus", "upernet")}
ARGUMENTS |= {"fcn": {"fused": 4}, "segformer": {"channels": 8, "norm": "instance"}}


def model_of(name, dims, deep=True):
    torch.manual_seed(0)
    backbone = ConvEncoder(1, dims, widths=[4, 4, 4, 4])
    arguments = {"deep_supervision": deep, "loss": CrossEntropy(), **ARGUMENTS.get(name, {})}
    head = HEADS[name](backbone.levels, ["a", "b"], **arguments)
    return Model(backbone, None, {"mask": head})


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_the_loss_is_the_weighted_sum_over_the_outputs_with_masks_on_their_grids(name, dims):
    """By hand: weights 1, 1/2, 1/4 over their sum; masks by nearest neighbour; an unknown class is background."""
    size, model = SIZES[dims], model_of(name, dims).train()
    mask = np.random.default_rng(0).integers(0, 2, size).astype(np.uint8)
    mask[..., :3] = 255
    known = np.array([True, False])
    targets = Targets.collate([Annotation(mask=mask, mask_known=known), Annotation()], size, 2)
    outputs = model.outputs(torch.randn(2, 1, *size))
    maps, strides = outputs["mask"], STRIDES[name]
    assert [tuple(x.shape[2:]) for x in maps] == [tuple(n // s for n in size) for s in strides]
    truth = torch.from_numpy(mask.astype(np.int64))[None]
    losses = []
    for logits, stride in zip(maps, strides, strict=True):
        coarse = truth[(slice(None), *(slice(stride // 2, None, stride),) * dims)]
        two = torch.stack([logits[:1, [0, 2]].logsumexp(1), logits[:1, 1]], 1)
        losses.append(functional.cross_entropy(two, coarse, ignore_index=255))
    weights = [0.5**i for i in range(len(strides))]
    by_hand = sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)
    assert model.loss(outputs, targets)["loss"].item() == pytest.approx(by_hand.item(), rel=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_prediction_is_that_without_deep_supervision(name, dims):
    """The finest output alone, by the same weights; FCN and semantic FPN have no parameter more."""
    deep, plain = model_of(name, dims).eval(), model_of(name, dims, deep=False).eval()
    shared = {key: value for key, value in deep.state_dict().items() if key in plain.state_dict()}
    if name in ("semantic_fpn", "fcn"):
        assert len(shared) == len(deep.state_dict())
    plain.load_state_dict(shared)
    image = torch.randn(1, 1, *SIZES[dims])
    assert torch.equal(deep(image), plain(image))
    decoded = deep.decode(deep.train().outputs(image), SIZES[dims])["mask"].mask_probabilities
    assert decoded.shape == (1, 3, *SIZES[dims])


@pytest.mark.parametrize("name", ["semantic_fpn", "fcn", "unetplusplus", "manet", "upernet", "segformer"])
def test_it_works_behind_a_neck_and_on_a_pyramid_that_starts_coarse(name):
    backbone = ConvEncoder(1, 2, widths=[4, 4, 4], strides=[4, 2, 2])
    neck = FPN(backbone.levels, channels=8)
    model = Model(backbone, neck, {"mask": HEADS[name](neck.levels, ["a"], deep_supervision=True)})
    targets = Targets.collate([Annotation(mask=np.eye(30, dtype=np.uint8))], (30, 30), 1)
    loss = model.loss(model.outputs(torch.randn(1, 1, 30, 30)), targets)["loss"]
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_an_fcn_of_stride_one_alone_has_no_coarser_output():
    head = FCN((Level(4, (1, 1)),), ["a"], deep_supervision=True).train()
    assert isinstance(head((torch.zeros(1, 4, 8, 8),)), torch.Tensor)
