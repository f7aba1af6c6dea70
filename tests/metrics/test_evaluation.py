from __future__ import annotations

import numpy as np
import pytest

from cphloc.metrics.classification import auc
from cphloc.metrics.detection import DetectionCase, match, mean_average_precision
from cphloc.metrics.evaluation import (
    attention_scores,
    classification_statistics,
    detection_scores,
    detection_statistics,
    segmentation_scores,
)
from cphloc.metrics.lesions import match_lesions
from cphloc.metrics.segmentation import dice
from cphloc.metrics.surface import surface_distances

SHAPES = pytest.mark.parametrize("shape", [(20, 24), (10, 12, 14)], ids=["2-D", "3-D"])


@SHAPES
def test_segmentation_scores_average_over_the_classes_that_are_there(shape) -> None:
    random = np.random.default_rng(0)
    prediction, reference = random.integers(0, 3, (2, *shape)).astype(np.uint8)
    spacing_mm = (2.0, 1.0, 0.5)[: len(shape)]
    found = segmentation_scores(prediction, reference, spacing_mm, {1: "left lung", 2: "right lung", 3: "tumour"})
    assert found["dice"] == pytest.approx((dice(prediction, reference, 1) + dice(prediction, reference, 2)) / 2)
    assert found["dice/right lung"] == dice(prediction, reference, 2)
    assert np.isnan(found["dice/tumour"])
    assert found["hd95_mm/left lung"] == surface_distances(prediction, reference, spacing_mm, 1).hausdorff(95)
    assert ("volume_error_ml" in found) == (len(shape) == 3)
    lesions = match_lesions(prediction, reference, 1)
    assert (found["lesion_f1/left lung"], found["lesion_pq/left lung"]) == (lesions.f1, lesions.panoptic_quality)
    assert found["volume_error/left lung"] == pytest.approx((prediction == 1).sum() / (reference == 1).sum() - 1)
    alone = segmentation_scores(prediction, reference, spacing_mm, {1: "left lung"})
    assert not any(name.endswith("lung") for name in alone)


@SHAPES
def test_attention_beside_one_of_two_lesions(shape) -> None:
    """All attention is one voxel before a lesion of which there are two, in other slices."""
    attention, region = np.zeros(shape), np.zeros(shape)
    low = np.full((2, len(shape)), [[2], [7]])
    boxes = np.concatenate([low, low + 2], axis=1)
    for box in boxes:
        region[tuple(slice(a, b) for a, b in zip(box[: len(shape)], box[len(shape) :], strict=True))] = 1
    attention[(2,) * (len(shape) - 1) + (1,)] = 1.0
    found = attention_scores(attention, region, (4.0,) * len(shape), boxes)
    assert (found["attention_mass"], found["pointing"], found["lesion_recall"]) == (0, 0, 0)
    assert found["pointing_near"] == 1, "one voxel of 4 mm"
    assert attention_scores(attention, region, (11.0,) * len(shape))["pointing_near"] == 0
    assert attention_scores(attention, region)["pointing_near"] == 1, "one pixel of fifteen"
    assert found.get("slice_hit") == (1.0 if len(shape) == 3 else None)
    on_one = np.roll(attention, 1, axis=-1)
    assert attention_scores(on_one, region, boxes=boxes)["lesion_recall"] == 0.5


@pytest.mark.parametrize("dims", [2, 3])
def test_detection_statistics_pool_all_cases_and_froc_asks_for_the_class(dims) -> None:
    near, far = ([a] * dims + [a + 10] * dims for a in (0, 50))
    one = DetectionCase(np.array([near, far]), [0.9, 0.8], [1, 2], np.array([near, far]), [1, 2])
    swapped = DetectionCase(np.array([near]), [0.7], [2], np.array([near]), [1])
    statistics = detection_statistics([one, swapped], {1: "cyst", 2: "mass"})
    ones = np.ones(2)
    matches = [match([one, swapped], label) for label in (1, 2)]
    assert statistics["map"](ones) == mean_average_precision(matches)
    assert statistics["map/mass"](ones) == mean_average_precision(matches[1:])
    assert statistics["froc"](ones) == pytest.approx(2 / 3)
    assert statistics["froc"](np.array([1, 0])) == 1
    assert detection_scores(swapped, [1, 2]) == {"case_ap50": 0.0, "case_recall50": 0.0, "box_iou": 0.0}


@pytest.mark.parametrize("dims", [2, 3])
def test_the_iou_of_the_only_box_of_a_class_is_that_of_the_most_certain_one(dims) -> None:
    """Half of class 1 is covered by its surest box; class 2 has two objects, class 3 was not looked for everywhere."""
    near, half, far = ([a] * dims + [a + 8] * (dims - 1) + [a + b] for a, b in ((0, 8), (0, 4), (50, 8)))
    detected = np.array([near, half, near, far])
    annotated = np.array([near, near, far, near])
    case = DetectionCase(detected, [0.2, 0.9, 0.8, 0.7], [1, 1, 2, 3], annotated, [1, 2, 2, -3])
    assert detection_scores(case, [1, 2, 3])["box_iou"] == 0.5
    assert "box_iou" not in detection_scores(case, [2, 3])


@pytest.mark.parametrize("dims", [2, 3])
def test_an_image_is_as_suspicious_as_its_best_box(dims) -> None:
    """Scikit-learn's AUC of the best score of each image; one without a box scores below all others."""
    roc_auc_score = pytest.importorskip("sklearn.metrics").roc_auc_score
    box, none = np.array([[0] * dims + [9] * dims]), np.zeros((0, 2 * dims))
    scores, there = [[0.9, 0.2], [], [0.3, 0.6], [0.2], []], [1, 1, 0, 1, 0]
    cases = [
        DetectionCase(np.repeat(box, len(s), axis=0), s, [1] * len(s), box if t else none, [1] * t)
        for s, t in zip(scores, there, strict=True)
    ]
    found = detection_statistics(cases, {1: "mass"})["image_auc"](np.ones(5))
    assert found == roc_auc_score(there, [max(s, default=0) for s in scores])


def test_classification_statistics_average_over_defined_classes() -> None:
    random = np.random.default_rng(0)
    probabilities, labels = random.random((30, 3)), (random.random((30, 3)) < 0.4).astype(float)
    labels[:, 2] = np.nan
    found = classification_statistics(probabilities, labels, ["a", "b", "c"])
    ones = np.ones(30)
    each = [auc(probabilities[:, k], labels[:, k]) for k in (0, 1)]
    assert found["auc"](ones) == pytest.approx(np.mean(each))
    assert found["auc/b"](ones) == each[1]
    assert np.isnan(found["auc/c"](ones))


@pytest.mark.parametrize("dims", [2, 3])
def test_every_class_has_its_own_tolerance_of_the_surface_dice(dims) -> None:
    """Planes of one voxel that lie 2 voxels of 1.5 mm apart: within 3 mm, and not within 1 mm."""
    reference, prediction = np.zeros((2, *(12,) * dims), np.uint8)
    for number, place in ((1, 2), (2, 7)):
        reference[place], prediction[place + 2] = number, number
    spacing, names = (1.5,) * dims, {1: "liver", 2: "spleen"}
    plain = segmentation_scores(prediction, reference, spacing, names)
    stated = segmentation_scores(prediction, reference, spacing, names, {"liver": 3.0})
    assert (plain["nsd/liver"], plain["nsd/spleen"]) == (0, 0)
    assert (stated["nsd/liver"], stated["nsd/spleen"], stated["nsd"]) == (1, 0, 0.5)
    assert segmentation_scores(prediction, reference, spacing, names, {"liver": 2.99})["nsd/liver"] == 0
