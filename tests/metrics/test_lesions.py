from __future__ import annotations

import numpy as np
import pytest

from cphloc.metrics.lesions import match_lesions


def drawn(shape: tuple[int, ...], *cubes: tuple[int, int]) -> np.ndarray:
    """Cubes (start, stop) along the diagonal."""
    mask = np.zeros(shape, np.uint8)
    for start, stop in cubes:
        mask[(slice(start, stop),) * len(shape)] = 1
    return mask


SHAPES = pytest.mark.parametrize("shape", [(30, 30), (30, 30, 30)], ids=["2-D", "3-D"])


def counts(found) -> tuple[int, int, int]:
    return found.true_positive, found.false_positive, found.false_negative


@SHAPES
@pytest.mark.parametrize("iou_above", [None, 0.0, 0.3])
def test_found_invented_and_missed(shape, iou_above) -> None:
    reference = drawn(shape, (1, 5), (10, 14), (20, 24))
    prediction = drawn(shape, (1, 5), (10, 13), (26, 29))
    found = match_lesions(prediction, reference, iou_above=iou_above)
    assert counts(found) == (2, 1, 1)
    assert found.f1 == pytest.approx(4 / 6)
    assert found.sensitivity == pytest.approx(2 / 3)
    assert found.ious == pytest.approx((1.0, 0.75 ** len(shape)))
    assert found.panoptic_quality == pytest.approx((1 + 0.75 ** len(shape)) / 2 * 4 / 6)


@SHAPES
def test_threshold_is_strict(shape) -> None:
    reference, prediction = np.zeros((2, *shape), bool)
    reference[(slice(0, 4), *[0] * (len(shape) - 1))] = True
    prediction[(slice(0, 2), *[0] * (len(shape) - 1))] = True
    assert counts(match_lesions(prediction, reference, iou_above=0.5)) == (0, 1, 1)
    assert counts(match_lesions(prediction, reference, iou_above=0.49)) == (1, 0, 0)


@SHAPES
def test_split_and_merged_lesions_count_once_each(shape) -> None:
    whole, parts = drawn(shape, (0, 12)), drawn(shape, (0, 5), (7, 12))
    split, merged = match_lesions(parts, whole), match_lesions(whole, parts)
    assert counts(split) == (1, 0, 0)
    assert counts(merged) == (2, 0, 0)
    assert counts(match_lesions(parts, whole, iou_above=0.0)) == (1, 1, 0)
    assert counts(match_lesions(whole, parts, iou_above=0.0)) == (1, 0, 1)


def test_one_to_one_matches_as_many_as_possible() -> None:
    # The first prediction overlaps both references; giving it its best would leave the second with nothing.
    reference = np.array([[1, 1, 1, 0, 1, 1, 1, 1, 1, 1]])
    prediction = np.array([[0, 0, 1, 1, 1, 1, 1, 0, 0, 1]])
    assert counts(match_lesions(prediction, reference, iou_above=0.0)) == (2, 0, 0)


@SHAPES
def test_voxels_that_touch_by_a_corner_are_one_lesion(shape) -> None:
    touching = drawn(shape, (0, 3), (3, 6))
    assert counts(match_lesions(touching, touching)) == (1, 0, 0)


@SHAPES
def test_swapping_masks_swaps_invented_and_missed(shape) -> None:
    random = np.random.default_rng(0)
    first, second = random.random((2, *shape)) < 0.08
    there, back = (match_lesions(*pair, iou_above=0.2) for pair in ((first, second), (second, first)))
    assert counts(there) == (back.true_positive, back.false_negative, back.false_positive)
    assert there.panoptic_quality == pytest.approx(back.panoptic_quality)
    assert there.true_positive > 0


@pytest.mark.parametrize(("policy", "expected"), [("nan", np.nan), ("one", 1.0), ("worst", 0.0)])
def test_no_lesion_at_all_follows_the_policy(policy, expected) -> None:
    empty = np.zeros((5, 5), bool)
    for iou_above in (None, 0.5):
        found = match_lesions(empty, empty, iou_above=iou_above, empty_policy=policy)
        assert (found.f1, found.panoptic_quality) == pytest.approx((expected, expected), nan_ok=True)
        assert np.isnan(found.sensitivity)


@pytest.mark.parametrize("policy", ["nan", "one", "worst"])
def test_lesions_on_one_side_only_score_zero(policy) -> None:
    empty, lesion = np.zeros((5, 5), bool), np.eye(5, dtype=bool)
    for pair, expected in (((empty, lesion), (0, 0, 1)), ((lesion, empty), (0, 1, 0))):
        for iou_above in (None, 0.5):
            found = match_lesions(*pair, iou_above=iou_above, empty_policy=policy)
            assert counts(found) == expected
            assert (found.f1, found.panoptic_quality) == (0, 0)


def test_panoptic_quality_equals_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    panoptic_quality = pytest.importorskip("torchmetrics.functional.detection").panoptic_quality
    shape = (30, 30)
    reference = drawn(shape, (1, 6), (10, 15), (20, 24))
    prediction = drawn(shape, (1, 6), (10, 14), (26, 29))
    from scipy import ndimage

    pair = [torch.from_numpy(np.stack([m, ndimage.label(m)[0]], axis=-1))[None].long() for m in (prediction, reference)]
    theirs = panoptic_quality(*pair, things={1}, stuffs={0}, return_per_class=True)[0, 0]
    assert match_lesions(prediction, reference, iou_above=0.5).panoptic_quality == pytest.approx(theirs.item())


def test_ignored_voxels_hold_no_lesion() -> None:
    reference = drawn((20, 20), (1, 5))
    prediction = drawn((20, 20), (1, 5), (10, 14))
    reference[9:15, 9:15] = 255
    assert counts(match_lesions(prediction, reference)) == (1, 0, 0)


def touching(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    return all(abs(a - b) <= 1 for a, b in zip(first, second, strict=True))


def objects(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Voxels that touch by a face, edge or corner, grown one by one."""
    left, found = {tuple(map(int, voxel)) for voxel in np.argwhere(mask)}, []
    while left:
        grown, edge = set(), {left.pop()}
        while edge:
            grown |= edge
            edge = {voxel for voxel in left if any(touching(voxel, one) for one in edge)}
            left -= edge
        found.append(grown)
    return found


@pytest.mark.parametrize("shape", [(14, 14), (7, 8, 8)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("seed", range(3))
def test_sensitivity_and_false_positives_are_those_of_objects_grown_voxel_by_voxel(shape, seed) -> None:
    from scipy import ndimage

    from cphloc.metrics.evaluation import segmentation_scores

    random = np.random.default_rng(seed)
    reference, prediction = (random.random((2, *shape)) < (0.05 if len(shape) == 2 else 0.03)).astype(np.uint8)
    reference[random.random(shape) < 0.02] = 255
    prediction |= (reference == 1) & (random.random(shape) < 0.3)
    known, true = reference != 255, reference == 1
    predicted, annotated = objects((prediction == 1) & known), objects(true)
    found = [lesion for lesion in annotated if any(lesion & other for other in predicted)]
    false = [lesion for lesion in predicted if not any(lesion & other for other in annotated)]
    scores = segmentation_scores(prediction, reference, (1.0,) * len(shape), {1: "lesion"})
    assert 0 < len(found) < len(annotated)
    assert false
    assert scores["lesion_sensitivity"] == pytest.approx(len(found) / len(annotated))
    assert scores["lesion_false_positives"] == len(false)
    labels, count = ndimage.label((prediction == 1) & known, np.ones((3,) * len(shape)))
    hit = set(np.unique(labels[true])) - {0}
    assert scores["lesion_false_positives"] == count - len(hit)
