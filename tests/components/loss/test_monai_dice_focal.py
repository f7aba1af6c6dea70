from __future__ import annotations

import sys

import pytest
import torch
from monai.losses import DiceFocalLoss
from torch.testing import assert_close

from cphloc.components.loss.monai_dice_focal import MonaiDiceFocal
from cphloc.errors import MissingExtraError


@pytest.mark.parametrize("size", [(6, 7), (4, 6, 7)])
def test_equals_monai_where_everything_is_annotated(size):
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, *size), torch.randint(0, 3, (2, *size))
    oracle = DiceFocalLoss(include_background=False, to_onehot_y=True, softmax=True)
    assert_close(MonaiDiceFocal()(logits, target), oracle(logits, target[:, None]))


@pytest.mark.parametrize("size", [(6, 7), (4, 6, 7)])
def test_voxels_without_annotation_have_no_gradient(size):
    logits, target = torch.randn(1, 2, *size, requires_grad=True), torch.ones(1, *size, dtype=torch.long)
    target[:, :2] = 255
    loss = MonaiDiceFocal()(logits, target)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad[:, :, :2].abs().max() == 0
    assert logits.grad[:, :, 2:].abs().max() > 0


def test_missing_monai_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.losses.dice", None)
    with pytest.raises(MissingExtraError, match=r"cphloc\[monai\]"):
        MonaiDiceFocal()
