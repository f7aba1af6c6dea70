"""Mask AP against COCO's own tool; a volume is given to it as the picture of its slices below each other."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cphloc.metrics.detection import average_precision
from cphloc.metrics.matching import InstanceCase, match
from cphloc.structures.instances import ObjectMask

SIZES = {2: (24, 20), 3: (4, 12, 10)}


def blocks(rng, count, size):
    """Random boxes of ones, some of which overlap."""
    masks = np.zeros((count, *size), bool)
    for each in masks:
        low = [rng.integers(0, n - 2) for n in size]
        each[tuple(slice(a, a + rng.integers(2, max(3, n // 2))) for a, n in zip(low, size, strict=True))] = True
    return masks


def drawn(dims, crowds):
    """Cases whose detections are the annotated objects, moved, and some more; scores are all different."""
    rng = np.random.default_rng(dims)
    scores = iter(rng.permutation(1000) / 1000)
    cases = []
    for _ in range(6):
        truth = blocks(rng, 3, SIZES[dims])
        found = np.concatenate([np.roll(truth, rng.integers(0, 2), axis=-1), blocks(rng, 2, SIZES[dims])])
        numbers = rng.integers(1, 3, 3)
        classes = np.concatenate([numbers, rng.integers(1, 3, 2)])
        signs = np.where(np.arange(3) == 0, -1, 1) if crowds else 1
        cases.append(InstanceCase(found, [next(scores) for _ in found], classes, truth, numbers * signs))
    return cases


def coco_ap(cases, label):
    def encoded(mask):
        code = rle.encode(np.asfortranarray(mask.reshape(-1, mask.shape[-1]).astype(np.uint8)))
        return {"segmentation": code, "area": float(mask.sum()), "bbox": rle.toBbox(code).tolist()}

    annotations, results = [], []
    for image, case in enumerate(cases, 1):
        for mask, number, crowd in zip(case.reference_boxes, case.reference_classes, case.crowd, strict=True):
            facts = {"id": len(annotations) + 1, "image_id": image, "category_id": int(number), "iscrowd": int(crowd)}
            annotations.append(facts | encoded(mask))
        for mask, number, score in zip(case.boxes, case.classes, case.scores, strict=True):
            results.append({"image_id": image, "category_id": int(number), "score": float(score)} | encoded(mask))
    truth = COCO()
    height, width = cases[0].boxes[0].reshape(-1, cases[0].boxes.shape[-1]).shape
    images = [{"id": i, "height": height, "width": width} for i in range(1, len(cases) + 1)]
    truth.dataset = {"images": images, "annotations": annotations}
    truth.dataset["categories"] = [{"id": 1}, {"id": 2}]
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][:, :, label - 1, 0, 2].mean(axis=1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("label", [1, 2])
def test_mask_ap_at_every_threshold_is_that_of_the_coco_tool(dims, crowds, label):
    cases = drawn(dims, crowds)
    ours = average_precision(match(cases, label))
    np.testing.assert_allclose(ours, coco_ap(cases, label), atol=1e-9)
    assert 0 < ours.mean() < 1


@pytest.mark.parametrize("dims", [2, 3])
def test_objects_stored_by_the_part_that_they_lie_in_have_the_same_overlaps(dims):
    def trimmed(mask):
        at = np.argwhere(mask)
        first, stop = at.min(0), at.max(0) + 1
        return ObjectMask(tuple(first.tolist()), mask[tuple(map(slice, first, stop))])

    for case in drawn(dims, crowds=True):
        found, true = [trimmed(m) for m in case.boxes], [trimmed(m) for m in case.reference_boxes]
        signs = np.where(case.crowd, -1, 1)
        other = InstanceCase(found, case.scores, case.classes, true, case.reference_classes * signs)
        every = np.arange(len(found)), np.arange(len(true))
        assert case.overlaps(*every).any()
        np.testing.assert_array_equal(case.overlaps(*every), other.overlaps(*every))


def test_one_minus_overlap_of_equal_and_separate_masks():
    one, other = np.array([[1, 1, 0, 0]], bool), np.array([[0, 0, 1, 1]], bool)
    case = InstanceCase(one, [0.5], [1], np.concatenate([one, other]), [1, 1])
    np.testing.assert_array_equal(case.overlaps(np.array([0]), np.array([0, 1])), [[1.0, 0.0]])
