from __future__ import annotations

import pytest
import torch
from monai.losses import TverskyLoss
from torch.testing import assert_close

from cphloc.components.loss.dice import Dice
from cphloc.components.loss.tversky import Tversky


@pytest.fixture(params=[(6, 7), (4, 6, 7)], ids=["2-D", "3-D"])
def case(request):
    torch.manual_seed(0)
    return torch.randn(2, 3, *request.param), torch.randint(0, 3, (2, *request.param))


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (0.7, 0.3), (0.5, 0.5)])
def test_equals_monai(case, alpha, beta, batch):
    logits, target = case
    oracle = TverskyLoss(include_background=False, to_onehot_y=True, softmax=True, alpha=alpha, beta=beta, batch=batch)
    ours = Tversky(alpha, beta, batch=batch)(logits, target)
    assert_close(ours, oracle(logits, target[:, None]), atol=1e-5, rtol=1e-4)


def test_equal_prices_are_dice_and_the_letters_are_not_swapped(case):
    logits, target = case
    assert_close(Tversky(0.5, 0.5)(logits, target), Dice()(logits, target), atol=1e-4, rtol=1e-4)
    everything = torch.stack([-9 * torch.ones(2, 4), 9 * torch.ones(2, 4)], 1)
    truth = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]])
    # All false positives, no false negative: only alpha counts.
    assert Tversky(0.0, 1.0)(everything, truth).item() == pytest.approx(0, abs=1e-3)
    assert Tversky(1.0, 0.0)(everything, truth).item() > 0.5


def test_gamma_1_is_tversky_and_other_gammas_its_power(case):
    logits, target = case
    one_class = logits[:1, :2], target[:1].clamp_max(1)
    plain = Tversky()(*one_class)
    assert_close(Tversky(gamma=0.75)(*one_class), plain**0.75)


def test_focal_gradient_is_finite_at_a_perfect_prediction():
    target = torch.tensor([[0, 1, 1, 0]])
    logits = (40 * torch.nn.functional.one_hot(target, 2).movedim(-1, 1).float()).requires_grad_()
    Tversky(gamma=0.75)(logits, target).backward()
    assert logits.grad.isfinite().all()


def test_voxels_without_annotation_do_not_count(case):
    logits, target = case
    target[:, :2] = 255
    logits.requires_grad_()
    loss = Tversky()(logits, target)
    assert_close(loss, Tversky()(logits[:, :, 2:], target[:, 2:]))
    loss.backward()
    assert logits.grad[:, :, :2].abs().max() == 0
