"""Annotations in merged classes, against cases written out by hand, and tensors against annotations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.merging import MergedClasses, Merging, merged_annotation, of_part

DATASET = {1: "meningioma", 2: "vessel", 3: "glioma"}
MERGING = Merging({1: "vessel", 2: "tumour"}, {1: {2: "vessel"}, 2: {1: "meningioma", 3: "glioma"}})
CLASSES = MergedClasses(DATASET, dict.fromkeys(("mask", "boxes", "labels"), MERGING))
NAN = np.float32(np.nan)


def test_numbers_names_and_parts():
    assert MERGING.table == (0, 2, 1, 2)
    assert MERGING.dataset == DATASET
    only_mask = MergedClasses(DATASET, {"mask": MERGING})
    assert of_part(only_mask, "mask") == {1: "vessel", 2: "tumour"}
    assert of_part(only_mask, "boxes") == only_mask == DATASET


@pytest.mark.parametrize(
    ("known", "mask", "merged_known"),
    [
        (None, [0, 2, 1, 2, 255], None),
        ([True, True, True], [0, 2, 1, 2, 255], [True, True]),
        ([True, False, True], [0, 2, 0, 2, 255], [False, True]),
        ([True, True, False], [0, 0, 1, 0, 255], [True, False]),  # a glioma could be anywhere in the background
    ],
)
def test_a_merged_class_is_known_where_all_its_classes_are(known, mask, merged_known):
    known = None if known is None else np.array(known)
    stored = np.array([[0, 1, 2, 3, 255]], np.uint8)
    if known is not None:
        stored = stored * np.concatenate([[True], known, np.ones(252, bool)])[stored].astype(np.uint8)
    merged = merged_annotation(Annotation(mask=stored, mask_known=known), CLASSES)
    assert merged.mask.tolist() == [mask]
    assert (None if merged.mask_known is None else merged.mask_known.tolist()) == merged_known


@pytest.mark.parametrize(
    ("label", "merged"),
    [
        ([0, 0, 0], [0, 0]),
        ([1, 0, 0], [0, 1]),
        ([1, 1, 1], [1, 1]),
        ([0, NAN, NAN], [NAN, NAN]),
        ([1, NAN, NAN], [NAN, 1]),
        ([NAN, 0, 0], [0, NAN]),
    ],
)
def test_a_merged_class_is_present_where_one_is_and_absent_where_all_are(label, merged):
    found = merged_annotation(Annotation(label=np.array(label, np.float32)), CLASSES)
    np.testing.assert_array_equal(found.label, np.array(merged, np.float32))


def test_boxes_stay_one_per_object_and_take_the_new_number():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [4, 4, 5, 5], [0, 0, 6, 6]], np.float32)
    annotation = Annotation(boxes=boxes, box_classes=np.array([1, 2, 3, -1]))
    assert merged_annotation(annotation, CLASSES).box_classes.tolist() == [2, 1, 2, -2]
    partly = Annotation(boxes=boxes[:2], box_classes=np.array([1, 2]), boxes_known=np.array([True, True, False]))
    merged = merged_annotation(partly, CLASSES)
    assert (merged.box_classes.tolist(), merged.boxes.tolist()) == ([1], [[1, 1, 3, 3]])
    assert merged.boxes_known.tolist() == [True, False]


@pytest.mark.parametrize("size", [(6, 7), (3, 6, 7)], ids=["2d", "3d"])
def test_tensors_are_merged_as_annotations_are(size):
    rng = np.random.default_rng(0)
    dims = len(size)
    mask = rng.choice([0, 1, 2, 3, 255], size).astype(np.uint8)
    low = rng.integers(0, 2, (4, dims))
    boxes = np.concatenate([low, low + 1], 1).astype(np.float32)
    cases = [
        Annotation(mask=mask),
        Annotation(mask=np.where(mask == 3, 0, mask).astype(np.uint8), mask_known=np.array([True, True, False])),
        Annotation(boxes=boxes, box_classes=np.array([1, 2, 3, -3])),
        Annotation(boxes=boxes[:1], box_classes=np.array([2]), boxes_known=np.array([False, True, True])),
        Annotation(label=np.array([1, NAN, 0], np.float32)),
        Annotation(label=np.array([0, 0, 0], np.float32)),
        Annotation(),
    ]
    merged = Targets.collate(cases, size, classes=3).merged(MERGING.table)
    done = [merged_annotation(case.completed(size, 3), CLASSES) for case in cases]
    for n, one in enumerate(done):
        assert merged.mask_known[n].tolist() == (np.zeros(2, bool) if one.mask is None else one.mask_known).tolist()
        assert np.array_equal(merged.masks[n], np.zeros(size) if one.mask is None else one.mask)
        assert merged.boxes_known[n].tolist() == (np.zeros(2, bool) if one.boxes is None else one.boxes_known).tolist()
        assert np.array_equal(merged.boxes[n], one.objects[0].reshape(-1, 2 * dims))
        assert np.array_equal(merged.box_classes[n], one.objects[1])
        assert np.array_equal(merged.ignored_classes[n], one.ignored[1])
        label = np.full(2, NAN) if one.label is None else one.label
        np.testing.assert_array_equal(merged.labels[n], label)
    assert merged.labels.dtype == torch.float32
    assert merged.masks.dtype == torch.int64
