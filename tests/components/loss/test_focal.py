from __future__ import annotations

import pytest
import torch
import torchvision
from torch.testing import assert_close

from cphloc.components.loss.focal import Focal


@pytest.mark.parametrize(
    ("probability", "present", "expected"), [(0.9, 1, 2.63401e-4), (0.5, 1, 0.0433217), (0.01, 0, 7.53775e-7)]
)
def test_gives_the_computed_constants(probability, present, expected):
    logit = torch.tensor([probability]).logit()
    assert Focal()(logit, torch.tensor([present])).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.75, 0.0), (None, 1.5)])
def test_equals_torchvision(alpha, gamma):
    logits, targets = torch.randn(5, 7), torch.randint(0, 2, (5, 7)).float()
    expected = torchvision.ops.sigmoid_focal_loss(logits, targets, -1 if alpha is None else alpha, gamma)
    assert_close(Focal(alpha, gamma)(logits, targets), expected, atol=1e-6, rtol=1e-5)
