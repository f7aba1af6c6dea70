from __future__ import annotations

import numpy as np
import pytest

from cphloc.errors import InputError
from cphloc.metrics.segmentation import confusion, dice, foreground, iou, volume_error, volume_error_ml, volume_ml

SHAPES = pytest.mark.parametrize("shape", [(12, 9), (7, 6, 5)], ids=["2-D", "3-D"])


def random_masks(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.random(shape) < 0.4, random.random(shape) < 0.3


@SHAPES
def test_dice_iou_and_counts_agree_with_sklearn(shape: tuple[int, ...]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    predicted, present = random_masks(shape)
    flat = (present.ravel(), predicted.ravel())
    assert dice(predicted, present) == pytest.approx(metrics.f1_score(*flat))
    assert iou(predicted, present) == pytest.approx(metrics.jaccard_score(*flat))
    tn, fp, fn, tp = metrics.confusion_matrix(*flat).ravel()
    assert confusion(predicted, present) == (tp, fp, fn, tn)


@SHAPES
def test_dice_is_symmetric_and_survives_flips_and_shifts(shape: tuple[int, ...]) -> None:
    predicted, present = random_masks(shape)
    expected = dice(predicted, present)
    assert dice(present, predicted) == expected
    assert dice(np.flip(predicted), np.flip(present)) == expected
    assert dice(np.pad(predicted, 3), np.pad(present, 3)) == expected
    assert dice(present, present) == 1.0


@pytest.mark.parametrize(("dice_value", "iou_value"), [(0.9, 0.8181818), (0.5, 0.6666667 / 2)])
def test_iou_is_dice_over_two_minus_dice(dice_value: float, iou_value: float) -> None:
    # Equal sizes n with k voxels shared have Dice k / n.
    shared = round(dice_value * 100)
    predicted, present = np.zeros(300, bool), np.zeros(300, bool)
    predicted[:100] = True
    present[100 - shared : 200 - shared] = True
    assert dice(predicted, present) == pytest.approx(dice_value)
    assert iou(predicted, present) == pytest.approx(iou_value, abs=1e-6)


@SHAPES
@pytest.mark.parametrize(("policy", "expected"), [("nan", np.nan), ("one", 1.0), ("worst", 0.0)])
@pytest.mark.parametrize("metric", [dice, iou])
def test_both_empty_follows_the_policy(shape, policy, expected, metric) -> None:
    empty = np.zeros(shape, np.uint8)
    assert metric(empty, empty, empty_policy=policy) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("policy", ["nan", "one", "worst"])
@pytest.mark.parametrize("metric", [dice, iou])
def test_one_empty_mask_scores_zero_under_every_policy(policy, metric) -> None:
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert metric(empty, full, empty_policy=policy) == 0.0
    assert metric(full, empty, empty_policy=policy) == 0.0


@SHAPES
def test_ignored_voxels_change_nothing(shape: tuple[int, ...]) -> None:
    predicted, present = (m.astype(np.uint8) for m in random_masks(shape))
    ignored = np.random.default_rng(5).random(shape) < 0.3
    reference = np.where(ignored, 255, present)
    kept = confusion(predicted[~ignored], present[~ignored])
    assert confusion(predicted, reference) == kept
    assert confusion(np.where(ignored, 1 - predicted, predicted), reference) == kept
    assert volume_error(predicted, reference) == volume_error(predicted[~ignored], present[~ignored])


def test_each_class_is_compared_alone() -> None:
    prediction, reference = np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])
    assert dice(prediction, reference, label=1) == pytest.approx(2 / 3)
    assert dice(prediction, reference, label=2) == pytest.approx(2 / 3)
    assert np.isnan(dice(prediction, reference, label=3))


def test_volume_of_a_ball_of_ten_voxels_radius() -> None:
    grid = np.indices((23, 23, 23)) - 11
    ball = (grid**2).sum(axis=0) <= 100
    assert ball.sum() == 4169
    assert volume_ml(ball, (1.0, 1.0, 1.0)) == pytest.approx(4.169)
    assert volume_ml(ball, (0.5, 0.5, 0.5)) == pytest.approx(4.169 / 8)
    assert volume_ml(ball, (1.0, 1.0, 1.0)) / 4.18879 - 1 == pytest.approx(-0.0047, abs=1e-4)


def test_a_sphere_of_ten_millimetres_holds_half_a_millilitre_and_half_of_its_box() -> None:
    grid = (np.indices((80, 80, 80)) + 0.5) / 8 - 5  # voxels of an eighth of a millimetre
    sphere = (grid**2).sum(axis=0) <= 25
    assert volume_ml(sphere, (0.125,) * 3) == pytest.approx(0.5236, rel=1e-3)
    assert sphere.mean() == pytest.approx(0.524, abs=1e-3)


def test_volume_errors_are_signed_and_undefined_without_reference() -> None:
    small, large = np.zeros((10, 10, 10), bool), np.zeros((10, 10, 10), bool)
    small[:5], large[:] = True, True
    assert volume_error(small, large) == -0.5
    assert volume_error(large, small) == 1.0
    assert volume_error_ml(small, large, (2.0, 1.0, 1.0)) == pytest.approx(-1.0)
    assert np.isnan(volume_error(large, np.zeros_like(large)))


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match=r"\(2, 3\).*\(3, 2\)"):
        foreground(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(InputError, match="'zero'"):
        dice(np.zeros(3), np.zeros(3), empty_policy="zero")
    with pytest.raises(InputError, match="3-D"):
        volume_ml(np.zeros((3, 3)), (1.0, 1.0))
