"""Panoptic quality against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.detection import panoptic_quality as reference_quality

from cphloc.metrics.instances import instance_statistics, without_overlap
from cphloc.metrics.matching import InstanceCase
from cphloc.structures.instances import painted

SIZES = {2: (24, 26), 3: (6, 14, 16)}
CLASSES = {1: "a", 2: "b"}


def blocks(rng, count, size):
    masks = np.zeros((count, *size), bool)
    for each in masks:
        low = [rng.integers(0, n - 2) for n in size]
        each[tuple(slice(a, a + rng.integers(2, n // 2)) for a, n in zip(low, size, strict=True))] = True
    return masks


def drawn(dims, seed):
    """Objects that do not overlap, and detections of them: shifted, split, added, of another class, overlapping."""
    rng, size = np.random.default_rng(seed), SIZES[dims]
    truth = blocks(rng, 4, size)
    for later, each in enumerate(truth):
        each[truth[:later].any(0)] = False
    truth = truth[truth.reshape(4, -1).any(1)]
    found = np.concatenate([np.roll(truth, rng.integers(0, 2), axis=-1), blocks(rng, 2, size)])
    numbers = rng.integers(1, 3, len(truth))
    classes = np.concatenate([numbers, rng.integers(1, 3, 2)])
    classes[0] = rng.integers(1, 3)
    scores = rng.permutation(len(found)) / len(found) * 0.6 + 0.31
    return InstanceCase(found, scores, classes, truth, numbers)


def segments(objects, classes, size):
    """Category and instance of each voxel; category 9 is background as one piece."""
    labels = painted(objects, size)
    category = np.concatenate([[9], classes])[labels]
    return torch.from_numpy(np.stack([category, labels], -1))[None]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_panoptic_quality_is_that_of_torchmetrics(dims, seed):
    case = drawn(dims, seed)
    flat = without_overlap(case)
    pair = (
        segments(flat.detected, flat.classes, SIZES[dims]),
        segments(case.reference, case.reference_classes, SIZES[dims]),
    )
    expected = reference_quality(*pair, things={1, 2}, stuffs={9}, return_per_class=True)[0, :2].tolist()
    got = instance_statistics([case], CLASSES)
    present = {*case.classes.tolist(), *case.reference_classes.tolist()}
    for number, name in CLASSES.items():
        assert number not in present or got[f"pq/{name}"](np.ones(1)) == pytest.approx(expected[number - 1], abs=1e-6)
    assert got["pq"](np.ones(1)) == pytest.approx(np.mean([expected[n - 1] for n in present]))


def test_objects_of_all_cases_are_pooled_and_weighted():
    cases = [drawn(2, seed) for seed in range(4)]
    value = instance_statistics(cases, CLASSES)["pq"]
    assert value(np.array([1.0, 1, 0, 0])) == pytest.approx(instance_statistics(cases[:2], CLASSES)["pq"](np.ones(2)))


def test_of_detections_that_overlap_the_best_keeps_its_voxels_and_those_of_low_score_are_left_out():
    masks = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]], bool)
    case = InstanceCase(masks, np.array([0.5, 0.9, 0.1]), np.array([1, 2, 1]), masks[:0], np.zeros(0, int))
    flat = without_overlap(case)
    assert [each.inside.tolist() for each in flat.detected] == [masks[1].tolist(), [True, *[False] * 4]]
    assert flat.classes.tolist() == [2, 1]


def test_what_lies_in_a_region_to_ignore_is_no_false_positive():
    masks = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]], bool)
    found = InstanceCase(masks, np.array([0.9, 0.8]), np.array([1, 1]), masks, np.array([1, -1]))
    assert instance_statistics([found], {1: "a"})["pq"](np.ones(1)) == 1
    missed = InstanceCase(masks, np.array([0.9, 0.8]), np.array([1, 1]), masks[:1], np.array([1]))
    assert instance_statistics([missed], {1: "a"})["pq"](np.ones(1)) == pytest.approx(1 / 1.5)
