"""Calibration of boxes, against loops over boxes and bins."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cphloc.metrics.box_calibration import LEAST_SCORE, box_reliability, detection_calibration_error
from cphloc.metrics.curves import box_reliability_curves
from cphloc.metrics.detection import DetectionCase, match
from cphloc.metrics.evaluation import detection_statistics

both = pytest.mark.parametrize("dims", [2, 3])


def cases_of(dims, number=30, seed=0):
    """Images with a few objects, boxes that are shifted by up to half their size, and boxes elsewhere."""
    rng = np.random.default_rng(seed)
    cases = []
    for _ in range(number):
        low = rng.integers(0, 40, (rng.integers(1, 4), dims)).astype(float)
        reference = np.concatenate([low, low + rng.integers(4, 9, low.shape)], axis=1)
        shifted = reference + np.tile(rng.uniform(-2, 2, low.shape), 2)
        boxes = np.concatenate([shifted, rng.uniform(60, 64, (2, 1)) + np.repeat([0, 4], dims)])
        scores = rng.uniform(0, 1, len(boxes))
        reference_classes = rng.integers(1, 3, len(reference))
        classes = np.append(reference_classes, rng.integers(1, 3, 2))
        cases.append(DetectionCase(boxes, scores, classes, reference, reference_classes))
    return cases


def iou(first, second, dims):
    shared, sizes = 1.0, [1.0, 1.0]
    for axis in range(dims):
        shared *= max(0.0, min(first[dims + axis], second[dims + axis]) - max(first[axis], second[axis]))
        sizes = [size * (box[dims + axis] - box[axis]) for size, box in zip(sizes, (first, second), strict=True)]
    return shared / (sum(sizes) - shared)


def outcomes(case, label, dims):
    """Score of each box of a class, and whether it hits an object at IoU 0.5 that no better box has hit."""
    free = [box for box, of in zip(case.reference_boxes, case.reference_classes, strict=True) if of == label]
    found = []
    for score, box in sorted(
        ((s, tuple(b)) for s, b, of in zip(case.scores, case.boxes, case.classes, strict=True) if of == label),
        reverse=True,
    ):
        best = max(free, key=lambda one: iou(box, one, dims), default=None)
        hit = best is not None and iou(box, best, dims) >= 0.5
        free = [one for one in free if one is not best] if hit else free
        found.append((score, hit))
    return found


def d_ece(found, bins=10, least=LEAST_SCORE):
    counted, error = [one for one in found if one[0] >= least], 0.0
    for number in range(bins):
        inside = [(s, hit) for s, hit in counted if number / bins <= s < (number + 1) / bins]
        if inside:
            scores, hits = zip(*inside, strict=True)
            error += abs(sum(scores) / len(inside) - sum(hits) / len(inside)) * len(inside) / len(counted)
    return error


@both
def test_the_error_is_that_of_loops_over_boxes_and_bins(dims):
    cases = cases_of(dims)
    by_class = []
    for label in (1, 2):
        found = list(itertools.chain.from_iterable(outcomes(case, label, dims) for case in cases))
        assert {hit for _, hit in found} == {True, False}
        by_class.append(d_ece(found))
        assert detection_calibration_error(match(cases, label, [0.5])) == pytest.approx(by_class[-1])
    statistics = detection_statistics(cases, {1: "cell", 2: "clump"})
    every = np.ones(len(cases))
    assert statistics["d_ece"](every) == pytest.approx(np.mean(by_class))
    assert [statistics[f"d_ece/{name}"](every) for name in ("cell", "clump")] == pytest.approx(by_class)


@both
def test_a_weight_of_two_counts_a_case_twice(dims):
    cases = cases_of(dims, 6)
    weights = np.array([2, 1, 0, 1, 1, 1])
    twice = [case for case, weight in zip(cases, weights, strict=True) for _ in range(weight)]
    found = [detection_calibration_error(match(c, 1, [0.5]), weights=w) for c, w in ((cases, weights), (twice, None))]
    assert found[0] == pytest.approx(found[1])


def test_scores_that_are_the_share_of_hits_have_no_error_and_others_their_distance():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.3, 1, 4000)
    hits = rng.random(4000) < scores
    boxes = np.where(hits[:, None], [[0.0, 0, 4, 4]], [[9.0, 9, 12, 12]])
    cases = [DetectionCase([b], [s], [1], [[0, 0, 4, 4]], [1]) for b, s in zip(boxes, scores, strict=True)]
    assert detection_calibration_error(match(cases, 1, [0.5])) < 0.03
    certain = [DetectionCase(c.boxes, [1.0], [1], c.reference_boxes, [1]) for c in cases]
    assert detection_calibration_error(match(certain, 1, [0.5])) == pytest.approx(1 - hits.mean())


def test_boxes_of_low_scores_are_in_the_curve_alone():
    case = DetectionCase([[0, 0, 4, 4]], [0.12], [1], [[0, 0, 4, 4]], [1])
    assert math.isnan(detection_calibration_error(match([case], 1, [0.5])))
    (curve,) = box_reliability_curves([case], {1: "cell", 2: "clump"}, ["a"])
    assert (curve.x[1], curve.y[1]) == (0.12, 1.0)
    assert box_reliability(match([case], 1, [0.5])).count.tolist() == [0, 1] + [0] * 8


def test_ignored_objects_make_a_box_neither_right_nor_wrong():
    case = DetectionCase([[0, 0, 4, 4], [8, 8, 9, 9]], [0.9, 0.5], [1, 1], [[0, 0, 4, 4]], [1], np.array([True]))
    assert detection_calibration_error(match([case], 1, [0.5])) == pytest.approx(0.5)
