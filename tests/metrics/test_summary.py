from __future__ import annotations

import numpy as np
import pytest

from cphloc.errors import InputError
from cphloc.metrics import evaluation
from cphloc.metrics.bootstrap import Interval, interval
from cphloc.metrics.detection import DetectionCase
from cphloc.metrics.summary import CaseScores, Restricted, summarize, tracking_metrics


def cases() -> list[CaseScores]:
    random = np.random.default_rng(0)
    return [
        CaseScores(
            f"scan{i}", f"patient{i // 2}", {"dice": random.random(), "hd95_mm": np.nan if i == 3 else i}, {"x": i}
        )
        for i in range(10)
    ]


def test_summary_is_the_interval_of_every_score_by_patient() -> None:
    found = summarize(cases())
    values, patients = [c.scores["dice"] for c in cases()], [c.patient for c in cases()]
    assert found["dice"] == interval(values, patients)
    assert found["hd95_mm"][3:] == (9, 1)
    assert list(found) == ["dice", "hd95_mm"]


def test_a_score_missing_in_a_case_counts_as_undefined() -> None:
    found = summarize([*cases(), CaseScores("scan11", "patient11", {"dice": 1.0})])
    assert found["hd95_mm"][3:] == (9, 2)


def test_same_evaluation_twice_gives_the_same_numbers() -> None:
    assert summarize(cases()) == summarize(cases())


def test_pooled_statistics_get_intervals_by_patient() -> None:
    random = np.random.default_rng(1)
    labels = (np.arange(40) % 2).astype(float)[:, None]
    probabilities = np.clip(0.3 * labels + random.random((40, 1)) * 0.7, 0, 1)
    statistics = evaluation.classification_statistics(probabilities, labels, ["cancer"])
    rows = [CaseScores(str(i), str(i)) for i in range(40)]
    found = summarize(rows, statistics, n=300)
    assert set(found) == {"auc", "sensitivity_at_90", "f1", "ece", "brier"}
    for value, low, high, n, undefined in found.values():
        assert low <= value <= high or value == pytest.approx(low, abs=0.05)
        assert (n, undefined) == (40, 0)
    assert found["auc"].low < found["auc"].value < found["auc"].high


def test_a_restricted_statistic_is_computed_once_for_the_same_counts() -> None:
    asked: list[list[float]] = []

    def first_count(weights: np.ndarray) -> float:
        asked.append(weights.tolist())
        return float(weights[0])

    statistic = Restricted(first_count, [2, 0])
    drawn = [np.array([1, 7, 3]), np.array([1, 0, 3]), np.array([1.0, 0.0, 3.0]), np.array([3, 7, 1])]
    assert [statistic(weights) for weights in drawn] == [3, 3, 3, 1]
    assert asked == [[3, 1], [1, 3]]


def test_tracking_keys_are_those_of_the_contract() -> None:
    flat = tracking_metrics({"hd95_mm": Interval(3.0, 2.0, 4.0, 9, 1), "auc": Interval(np.nan, np.nan, np.nan, 9)})
    assert flat == {
        "test/hd95_mm": 3.0,
        "test/hd95_mm_ci_low": 2.0,
        "test/hd95_mm_ci_high": 4.0,
        "test/hd95_mm_undefined": 1.0,
    }
    assert tracking_metrics({"dice": Interval(0.9, 0.8, 1.0, 1)}, prefix="val")["val/dice"] == 0.9


def test_every_contract_metric_has_its_name() -> None:
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[1:4, 1:4, 1:4] = 1
    box = DetectionCase(np.array([[0, 0, 2, 2]]), [0.5], [1], np.array([[0, 0, 2, 2]]), [1])
    names = {
        *evaluation.segmentation_scores(mask, mask, (1.0, 1.0, 1.0), {1: "tumour"}),
        *evaluation.attention_scores(np.ones((4, 4)), np.eye(4)),
        *evaluation.detection_statistics([box], {1: "cyst"}),
        *evaluation.classification_statistics(np.ones((2, 1)), np.ones((2, 1)), ["cancer"]),
    }
    assert {"dice", "hd95_mm", "ap50", "map", "froc", "auc", "attention_mass", "pointing"} <= names


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="no case"):
        summarize([])
    with pytest.raises(InputError, match="dice given both"):
        summarize(cases(), {"dice": lambda weights: 1.0})
