"""Thresholds chosen on validation cases, against a search over every one by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cphloc.evaluation.operating_point import GRID, OperatingPoint, dice_by_threshold
from cphloc.metrics.detection import DetectionCase


def boxes(*corners, dims=2):
    return np.array([[c] * dims + [c + 4] * dims for c in corners], float).reshape(-1, 2 * dims)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_box_threshold_has_the_highest_f1(dims):
    point = OperatingPoint({1: "a", 2: "b"}, dims)
    found, true = boxes(0, 10, 50, 60, 20, dims=dims), boxes(0, 10, 20, dims=dims)
    scores, classes = np.array([0.9, 0.7, 0.6, 0.3, 0.1]), np.array([1, 2, 1, 1, 1])
    case = DetectionCase(found, scores, classes, true, np.array([1, 2, 1]))
    point.boxes += [case] * 4
    assert point.thresholds == {}
    assert "12 correct and 8 wrong boxes" in point.shortages[0]
    point.boxes.append(case)
    assert point.shortages == []
    # F1 if the boxes from each score on are kept: .5, .8, .67, .57, .75; so the best are the first two
    assert point.thresholds == {"boxes": pytest.approx(0.65)}


def test_without_a_correct_box_there_is_no_threshold():
    point = OperatingPoint({1: "a"}, 2)
    assert point.thresholds == {}
    point.boxes.append(DetectionCase(boxes(50), np.array([0.9]), np.array([1]), boxes(0), np.array([1])))
    assert point.thresholds == {}


def test_dice_of_each_threshold_is_that_of_the_mask_it_makes():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([1, 1, 1], size=(6, 7, 8)).transpose(3, 0, 1, 2)
    truth = random.integers(0, 3, (6, 7, 8)).astype(np.uint8)
    truth[0] = 255
    known = truth != 255
    found = dice_by_threshold(probabilities, truth)
    for row, threshold in zip(found, [None, *GRID], strict=True):
        for number in (1, 2):
            best = probabilities[1:].argmax(axis=0) + 1 == number
            mask = (
                best & (probabilities[1:].max(axis=0) >= threshold) if threshold else probabilities.argmax(0) == number
            )
            mask, true = mask & known, (truth == number) & known
            assert row[number - 1] == pytest.approx(2 * (mask & true).sum() / (mask.sum() + true.sum()))


def test_a_timid_model_gets_a_lower_mask_threshold_and_a_good_one_none():
    truth = np.zeros((8, 8), np.uint8)
    truth[2:6, 2:6] = 1
    for inside, expected in ((0.3, {"mask": pytest.approx(0.3, abs=0.06)}), (0.9, {})):
        point = OperatingPoint({1: "a"}, 2)
        foreground = np.where(truth == 1, inside, 0.1)
        for _ in range(9):
            point.add_mask(np.stack([1 - foreground, foreground]), truth)
        point.add_mask(np.stack([1 - foreground, foreground]), np.zeros_like(truth))
        assert point.thresholds == {}
        assert "9 cases with an object" in point.shortages[0]
        point.add_mask(np.stack([1 - foreground, foreground]), truth)
        chosen = point.thresholds
        assert {part: value for part, value in chosen.items() if not 0.1 < value <= inside} == {}
        assert set(chosen) == set(expected)


def test_a_class_that_nobody_looked_for_does_not_count():
    truth = np.zeros((4, 4), np.uint8)
    foreground = np.full((4, 4), 0.3)
    point = OperatingPoint({1: "a"}, 2)
    truth[1] = 1
    for _ in range(20):
        point.add_mask(np.stack([1 - foreground, foreground]), truth, np.array([False]))
    assert point.thresholds == {}
