from __future__ import annotations

import time

import numpy as np
import pytest

from cphloc.errors import InputError
from cphloc.metrics.froc import CAMELYON_FP_PER_SCAN, LUNA16_FP_PER_SCAN, Froc, Scan, hits_by_iou, hits_in_radius


def scan(scores, hits=None, targets=0, excluded=None) -> Scan:
    return Scan(scores, np.zeros((len(scores), targets), bool) if hits is None else hits, excluded)


def random_scans(count: int, candidates: int = 20, seed: int = 0) -> list[Scan]:
    random = np.random.default_rng(seed)
    scans = []
    for _ in range(count):
        targets = random.integers(0, 4)
        n = random.integers(0, candidates)
        hits = random.random((n, targets)) < 0.2
        scans.append(Scan(random.random(n) + hits.any(axis=1) * 0.3, hits))
    return scans


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_candidate_exactly_at_the_radius_misses(dims) -> None:
    centre = np.full(dims, 50.0)
    points = np.stack([centre, centre, centre])
    points[:, 0] += [2.999, 3.0, -2.999]
    assert hits_in_radius(points, centre[None], [6.0]).ravel().tolist() == [True, False, True]


def test_unknown_diameter_is_ten_mm() -> None:
    assert hits_in_radius([[4.9, 0, 0], [5.0, 0, 0]], [[0, 0, 0]], [-1]).ravel().tolist() == [True, False]


def test_two_hits_on_one_target_are_one_true_and_no_false_positive() -> None:
    found = Froc([scan([0.9, 0.8, 0.7], [[True], [True], [False]])])
    rate, sensitivity, scores = found.curve()
    assert scores.tolist() == [np.inf, 0.9, 0.7]
    assert rate.tolist() == [0, 0, 1]
    assert sensitivity.tolist() == [0, 1, 1]


def test_one_candidate_may_find_two_targets() -> None:
    found = Froc([scan([0.9], [[True, True]])])
    assert found.curve()[1].tolist() == [0, 1]


def test_candidates_on_excluded_targets_count_neither_way() -> None:
    found = Froc([scan([0.9, 0.8, 0.7], [[False, True], [True, True], [False, False]], excluded=[False, True])])
    rate, sensitivity, scores = found.curve()
    assert found.targets.tolist() == [1]
    assert scores.tolist() == [np.inf, 0.8, 0.7]
    assert rate.tolist() == [0, 0, 1]
    assert sensitivity.tolist() == [0, 1, 1]


def test_false_positives_are_divided_by_all_scans() -> None:
    scans = [scan([0.9], [[False]]), scan([0.8], [[True]]), scan([0.7]), scan([])]
    rate, sensitivity, _ = Froc(scans).curve()
    assert rate.tolist() == [0, 0.25, 0.25, 0.5]
    assert sensitivity.tolist() == [0, 0, 0.5, 0.5]


def test_monai_constant_with_its_six_operating_points() -> None:
    # Four targets, all found, at 1, 1, 0.8, 0.8; two false positives at 0.8 and 0.6; two images.
    scans = [scan([1, 1, 0.8], [[True, False], [False, True], [False, False]]), scan([0.8, 0.8, 0.6], np.eye(3, 2))]
    found = Froc(scans)
    assert found.score(CAMELYON_FP_PER_SCAN) == pytest.approx(0.95833333)
    assert found.sensitivity_at([0.25]) == pytest.approx([0.75])
    assert len(LUNA16_FP_PER_SCAN) == 7
    assert found.score() == pytest.approx((0.625 + 0.75 + 5) / 7)


def test_equals_the_roc_curve_construction_of_luna16() -> None:
    roc_curve = pytest.importorskip("sklearn.metrics").roc_curve
    scans = random_scans(60)
    # One row per found target (its best score), missed target (left out of the curve) and false positive.
    labels, scores, targets = [], [], 0
    for s in scans:
        targets += s.hits.shape[1]
        for k in range(s.hits.shape[1]):
            if s.hits[:, k].any():
                labels.append(1)
                scores.append(s.scores[s.hits[:, k]].max())
        for i in np.flatnonzero(~s.hits.any(axis=1)):
            labels.append(0)
            scores.append(s.scores[i])
    false_rate, true_rate, _ = roc_curve(labels, scores)
    rate, sensitivity = false_rate * labels.count(0) / 60, true_rate * labels.count(1) / targets
    expected = np.interp(LUNA16_FP_PER_SCAN, rate, sensitivity)
    assert 0.1 < expected[0] < expected[-1] < 1
    assert Froc(scans).sensitivity_at() == pytest.approx(expected)


def test_published_values_average_to_the_published_cpm() -> None:
    luna16 = [0.812, 0.885, 0.927, 0.950, 0.969, 0.979, 0.985]
    # A curve through these points: as many targets found between consecutive operating points as they say.
    scores, hits, found, false = [], [], 0, 0
    for rate, sensitivity in zip(LUNA16_FP_PER_SCAN, luna16, strict=True):
        new_false, new_found = round(rate * 8) - false, round(sensitivity * 1000) - found
        kinds = [-1] * new_false + list(range(found, found + new_found))
        false, found = false + new_false, found + new_found
        for kind in kinds:
            hits.append(np.arange(1000) == kind)
            scores.append(-len(scores))
    assert Froc([scan(scores, np.array(hits)), *[scan([])] * 7]).score() == pytest.approx(0.930, abs=5e-4)


def test_no_false_positive_and_no_target() -> None:
    assert Froc([scan([0.9], [[True]]), scan([])]).score() == 1
    assert np.isnan(Froc([scan([0.9])]).score())
    assert Froc([scan([], targets=1)]).score() == 0


def test_equal_scores_enter_together_in_any_order() -> None:
    there = [scan([0.5, 0.5], [[True], [False]])]
    back = [scan([0.5, 0.5], [[False], [True]])]
    for scans in (there, back):
        rate, sensitivity, _ = Froc(scans).curve()
        assert (rate.tolist(), sensitivity.tolist()) == ([0, 1], [0, 1])


def test_weights_equal_repeated_scans() -> None:
    scans = random_scans(30)
    weights = np.arange(30) % 3
    repeated = [s for s, k in zip(scans, weights, strict=True) for _ in range(k)]
    assert Froc(scans).score(weights=weights) == pytest.approx(Froc(repeated).score())


@pytest.mark.parametrize("dims", [2, 3])
def test_hits_by_iou_are_inclusive(dims) -> None:
    box = [0] * dims + [2] * dims
    half = [0] * dims + [1] + [2] * (dims - 1)
    assert hits_by_iou([box], [half], 0.5).tolist() == [[True]]
    assert hits_by_iou([box], [half], 0.51).tolist() == [[False]]


def test_a_thousand_scans_take_under_a_second() -> None:
    scans = random_scans(1000, candidates=200)
    start = time.process_time()
    Froc(scans).score()
    assert time.process_time() - start < 1


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match=r"\(2, 1\), got \(1, 1\)"):
        Scan([0.1, 0.2], [[True]], [False])
