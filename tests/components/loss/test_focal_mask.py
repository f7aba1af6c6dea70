from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from cphloc.components.loss.focal_mask import FocalMask


@pytest.fixture(params=[(6, 7), (4, 6, 7)], ids=["2-D", "3-D"])
def case(request):
    torch.manual_seed(0)
    return torch.randn(2, 3, *request.param, requires_grad=True), torch.randint(0, 3, (2, *request.param))


@pytest.mark.parametrize(
    ("probability", "weight", "value"), [(0.9, 0.25, 2.63401e-4), (0.5, 0.25, 0.0433217), (0.99, 0.75, 7.53775e-7)]
)
def test_reference_values(probability, weight, value):
    logits = torch.tensor([[[0.0], [math.log(probability / (1 - probability))]]])
    loss = FocalMask(class_weights=[1.0, weight])(logits, torch.ones(1, 1, dtype=torch.long))
    assert loss.item() == pytest.approx(value, rel=1e-3)


def test_gamma_0_is_cross_entropy(case):
    logits, target = case
    assert_close(FocalMask(gamma=0.0)(logits, target), F.cross_entropy(logits, target))


def test_voxels_without_annotation_do_not_count(case):
    logits, target = case
    target[:, :2] = 255
    loss = FocalMask()(logits, target)
    assert_close(loss, FocalMask()(logits[:, :, 2:], target[:, 2:]))
    loss.backward()
    assert logits.grad[:, :, :2].abs().max() == 0
    nothing = FocalMask()(logits, torch.full_like(target, 255))
    assert nothing.item() == 0
    assert nothing.requires_grad
