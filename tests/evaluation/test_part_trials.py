"""Least score of boxes and temperature of labels, against a search by hand and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from cphloc.evaluation.part_trials import box_trial, temperature_trial
from cphloc.metrics.detection import DetectionCase


def boxes(*corners, dims=2):
    return np.array([[c] * dims + [c + 4] * dims for c in corners], float).reshape(-1, 2 * dims)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_box_threshold_has_the_highest_f1(dims):
    found, true = boxes(0, 10, 50, 60, 20, dims=dims), boxes(0, 10, 20, dims=dims)
    scores, classes = np.array([0.9, 0.7, 0.6, 0.3, 0.1]), np.array([1, 2, 1, 1, 1])
    case = DetectionCase(found, scores, classes, true, np.array([1, 2, 1]))
    least, trial = box_trial([case] * 4, [1, 2], dims)
    assert (least, trial.kept) == (None, False)
    assert trial.why == "12 correct and 8 wrong boxes; at least 10 of each are needed"
    least, trial = box_trial([case] * 5, [1, 2], dims)
    # F1 if the boxes from each score on are kept: .5, .8, .67, .57, .75; so the best are the first two
    assert least == pytest.approx(0.65)
    assert (trial.before, trial.after, trial.gain) == pytest.approx((0.75, 0.8, 0.05))


def test_without_boxes_there_is_no_threshold():
    assert box_trial([], [1], 2) == (None, None)


def test_a_temperature_is_kept_where_it_lowers_the_brier_score():
    brier = pytest.importorskip("sklearn.metrics").brier_score_loss
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, 400)
    truth = (random.random(400) < 1 / (1 + np.exp(-logits))).astype(float)
    for factor, kept in ((3.0, True), (1.0, None)):
        stated = 1 / (1 + np.exp(-factor * logits))
        labels = [(np.array([p]), np.array([y]), str(i)) for i, (p, y) in enumerate(zip(stated, truth, strict=True))]
        temperature, trial = temperature_trial(labels)
        assert trial.before == pytest.approx(brier(truth, stated))
        assert trial.after == pytest.approx(
            brier(truth, 1 / (1 + np.exp(-factor * logits / float(trial.value)))), abs=1e-4
        )
        assert trial.kept == (trial.gain > 0)
        assert temperature == pytest.approx(factor, rel=0.15)
        assert kept in (None, trial.kept)


def test_few_labels_give_no_temperature():
    temperature, trial = temperature_trial([(np.array([0.9]), np.array([1.0]), "a")] * 6)
    assert (temperature, trial.kept, trial.why) == (
        1.0,
        False,
        "6 positive and 0 negative labels; at least 10 of each are needed",
    )
