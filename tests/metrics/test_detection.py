from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from cphloc.errors import InputError
from cphloc.metrics.bootstrap import bootstrap, weighted_bootstrap
from cphloc.metrics.coco import coco_summary
from cphloc.metrics.detection import (
    DetectionCase,
    Matches,
    average_precision,
    match,
    mean_average_precision,
    precision_recall,
    recall,
)

DIMS = pytest.mark.parametrize("dims", [2, 3], ids=["2-D", "3-D"])


def case(boxes, scores, references, ignored=()) -> DetectionCase:
    dims = len((list(boxes) + list(references))[0]) // 2
    boxes, references = np.reshape(boxes, (-1, 2 * dims)), np.reshape(references, (-1, 2 * dims))
    return DetectionCase(
        boxes, scores, np.ones(len(boxes), int), references, np.ones(len(references), int), np.asarray(ignored, bool)
    )


def random_cases(images: int, dims: int, classes: int = 3, seed: int = 0) -> list[DetectionCase]:
    """References, jittered copies of most of them, duplicates and noise; some images hold nothing."""
    random = np.random.default_rng(seed)
    cases = []
    for _ in range(images):
        count = random.integers(0, 7)
        low = random.uniform(0, 200, (count, dims))
        references = np.concatenate([low, low + random.uniform(30, 120, (count, dims))], axis=1)
        labels = random.integers(1, classes + 1, count)
        copied = np.flatnonzero(random.random(count) < 0.8).repeat(2)
        noise = random.integers(0, 5)
        low = random.uniform(0, 200, (noise, dims))
        found = np.concatenate(
            [
                references[copied] + random.normal(0, 2, (len(copied), 2 * dims)),
                np.concatenate([low, low + random.uniform(10, 120, (noise, dims))], axis=1),
            ]
        )
        found_labels = np.concatenate([labels[copied], random.integers(1, classes + 1, noise)])
        scores = random.permutation(1000)[: len(found)] / 1000 + random.uniform(0, 1e-3)
        cases.append(DetectionCase(found, scores, found_labels, references, labels))
    return cases


def in_dims(cases: list[DetectionCase], dims: int) -> list[DetectionCase]:
    """The same 2-D boxes with further axes on which all of them agree."""

    def extended(boxes: np.ndarray) -> np.ndarray:
        more = np.ones((len(boxes), dims - 2))
        return np.concatenate([0 * more, boxes[:, :2], 7 * more, boxes[:, 2:]], axis=1)

    return [
        DetectionCase(extended(c.boxes), c.scores, c.classes, extended(c.reference_boxes), c.reference_classes)
        for c in cases
    ]


def matches_of_ranks(true_positive_ranks: list[int], detections: int, references: int) -> Matches:
    hits = np.isin(np.arange(1, detections + 1), true_positive_ranks)[None]
    scores = np.linspace(1, 0, detections)
    return Matches(np.zeros(detections, int), scores, hits, np.zeros_like(hits), np.array([references]), (0.3,))


@pytest.mark.parametrize(
    ("interpolation", "expected"), [("11_point", 0.268398), ("all_point", 0.245687), ("coco", 0.248160)]
)
def test_worked_example_of_24_detections_and_15_references(interpolation, expected) -> None:
    matches = matches_of_ranks([1, 3, 10, 12, 13, 14, 23], 24, 15)
    assert average_precision(matches, interpolation) == pytest.approx([expected], abs=5e-7)


def test_map_equals_faster_coco_eval_in_2d() -> None:
    cases = random_cases(40, dims=2)
    theirs = coco_summary(cases)
    ours = [match(cases, label) for label in (1, 2, 3)]
    assert 0.1 < theirs["AP"] < 0.9
    assert mean_average_precision(ours) == pytest.approx(theirs["AP"], abs=1e-9)
    for threshold, name in ((0.5, "AP50"), (0.75, "AP75")):
        at = [match(cases, label, [threshold]) for label in (1, 2, 3)]
        assert mean_average_precision(at) == pytest.approx(theirs[name], abs=1e-9)
    assert recall(ours) == pytest.approx(theirs["AR100"], abs=1e-9)
    assert recall([match(cases, label, max_detections=1) for label in (1, 2, 3)]) == pytest.approx(
        theirs["AR1"], abs=1e-9
    )


def test_extra_axes_on_which_all_boxes_agree_change_nothing() -> None:
    cases = random_cases(15, dims=2)
    expected = mean_average_precision([match(cases, label) for label in (1, 2, 3)])
    lifted = in_dims(cases, 3)
    assert mean_average_precision([match(lifted, label) for label in (1, 2, 3)]) == pytest.approx(expected)


@DIMS
def test_perfect_detections_score_one_and_none_score_zero(dims) -> None:
    perfect, nothing = [], []
    for c in random_cases(10, dims):
        labels, boxes = c.reference_classes, c.reference_boxes
        perfect.append(DetectionCase(boxes, np.linspace(1, 0.5, len(boxes)), labels, boxes, labels))
        nothing.append(DetectionCase(boxes[:0], [], [], boxes, labels))
    assert mean_average_precision([match(perfect, label) for label in (1, 2, 3)]) == 1
    assert mean_average_precision([match(nothing, label) for label in (1, 2, 3)]) == 0
    assert recall([match(nothing, 1)]) == 0


@DIMS
def test_second_choice_is_coco_not_voc(dims) -> None:
    # Both detections overlap the first reference most; the second could still have the other one.
    def box(start: float, stop: float) -> list[float]:
        return [start] + [0] * (dims - 1) + [stop] + [10] * (dims - 1)

    one = case([box(0, 10), box(1, 11)], [0.9, 0.8], [box(0, 10), box(4, 14)])
    assert match([one], iou_thresholds=[0.5], rule="coco").hits.tolist() == [[True, True]]
    assert match([one], iou_thresholds=[0.5], rule="voc").hits.tolist() == [[True, False]]


@DIMS
def test_duplicates_are_false_positives(dims) -> None:
    box = [0] * dims + [10] * dims
    [(recalled, precision)] = precision_recall(match([case([box, box], [0.9, 0.8], [box])], iou_thresholds=[0.5]))
    assert recalled.tolist() == [1, 1]
    assert precision.tolist() == [1, 0.5]


@DIMS
def test_ignored_references_count_neither_way(dims) -> None:
    near, far, noise = ([a] * dims + [a + 10] * dims for a in (0, 50, 90))
    cases = [case([near, far, far, noise], [0.6, 0.9, 0.8, 0.5], [near, far], [False, True])]
    matches = match(cases, iou_thresholds=[0.5])
    assert matches.references.tolist() == [1]
    assert matches.ignored.tolist() == [[True, True, False, False]]
    assert average_precision(matches).tolist() == [1.0]


def test_threshold_is_inclusive() -> None:
    half = case([[0, 0, 1, 2]], [0.5], [[0, 0, 2, 2]])
    assert match([half], iou_thresholds=[0.5]).hits.all()
    assert not match([half], iou_thresholds=[0.5 + 1e-9]).hits.any()


def test_no_reference_is_undefined_and_leaves_the_class_out() -> None:
    cases = random_cases(10, dims=2, classes=1)
    assert np.isnan(average_precision(match(cases, label=9))).all()
    assert np.isnan(mean_average_precision([match(cases, label=9)]))
    alone = mean_average_precision([match(cases, label=1)])
    assert mean_average_precision([match(cases, label) for label in (1, 9)]) == alone


def test_weights_equal_repeated_cases() -> None:
    cases = random_cases(12, dims=3)
    weights = np.arange(12) % 3
    repeated = [c for c, k in zip(cases, weights, strict=True) for _ in range(k)]
    expected = mean_average_precision([match(repeated, label) for label in (1, 2, 3)])
    assert mean_average_precision([match(cases, label) for label in (1, 2, 3)], weights) == pytest.approx(expected)
    matches = match(cases, 1, [0.5])
    weighted = weighted_bootstrap(lambda w: mean_average_precision([matches], w), range(12), n=50)
    slow = bootstrap(lambda chosen: mean_average_precision([match(chosen, 1, [0.5])]), cases, n=50)
    assert weighted == pytest.approx(slow)


def test_coco_summary_of_nothing_is_undefined() -> None:
    empty = DetectionCase(np.zeros((0, 4)), [], [], np.zeros((0, 4)), [])
    assert np.isnan(coco_summary([empty])["AP"])
    missed = DetectionCase(np.zeros((0, 4)), [], [], np.array([[0, 0, 9, 9]]), [1])
    assert coco_summary([missed])["AP"] == 0


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="must agree"):
        DetectionCase(np.zeros((2, 4)), [0.5], [1, 1], np.zeros((0, 4)), [])
    with pytest.raises(InputError, match="'area'"):
        average_precision(matches_of_ranks([1], 1, 1), "area")
    with pytest.raises(InputError, match="2-D boxes"):
        coco_summary(random_cases(3, dims=3))


def test_a_case_is_replaced_never_altered():
    with pytest.raises(FrozenInstanceError):
        case([[0, 0, 2, 2]], [0.5], [[0, 0, 2, 2]]).scores = np.ones(1)


def test_references_that_are_all_ignored_make_no_detection_right_or_wrong():
    found = match([case([[0, 0, 2, 2], [5, 5, 7, 7]], [0.9, 0.8], [[0, 0, 2, 2]], ignored=[True])], 1, [0.5])
    assert (found.hits.tolist(), found.ignored.tolist()) == ([[False, False]], [[True, False]])
    assert found.references.tolist() == [0]
