"""Classes are removed from the mask of an image whose labels say that they are not there."""

from __future__ import annotations

import numpy as np
import pytest

from cphloc.inference.mask_filter import filter_mask, label_probabilities
from cphloc.structures.geometry import Geometry
from cphloc.structures.merging import MergedClasses, Merging
from cphloc.structures.options import Options

CLASSES = {1: "liver", 2: "cyst"}
both = pytest.mark.parametrize("dims", [2, 3])


def outlined(dims):
    """A liver, and a cyst of one voxel and one of two."""
    mask = np.zeros((8,) * dims, np.uint8)
    mask[(slice(0, 4),) * dims] = 1
    mask[(5,) * dims] = mask[(7,) * dims] = mask[(*(7,) * (dims - 1), 6)] = 2
    return mask


@both
def test_only_the_unlikely_class_is_removed(dims):
    mask = outlined(dims)
    before, options = mask.copy(), Options(min_probability={"liver": 0.5, "cyst": 0.5})
    found, remarks = filter_mask(mask, Geometry.regular(mask.shape), CLASSES, options, {"liver": 0.5, "cyst": 0.4})
    assert np.array_equal(found, np.where(before == 2, 0, before))
    assert remarks == ["cyst was outlined, but its label probability of 0.4 is below 0.5: removed"]
    assert np.array_equal(mask, before), "the mask that was given stays"
    assert found.dtype == mask.dtype


@both
def test_components_of_likely_classes_are_removed_too(dims):
    mask = outlined(dims)
    options = Options(min_probability={"liver": 0.5}, largest=["cyst"])
    found, _ = filter_mask(mask, Geometry.regular(mask.shape), CLASSES, options, {"liver": 0.1})
    assert [(found == number).sum() for number in (1, 2)] == [0, 2]


def test_nothing_is_said_of_what_was_not_outlined():
    mask, options = np.zeros((4, 4), np.uint8), Options(min_probability={"liver": 0.5})
    found, remarks = filter_mask(mask, Geometry.regular(mask.shape), CLASSES, options, {"liver": 0.1})
    assert found is mask
    assert remarks == []


def test_without_a_label_the_class_stays_and_it_is_said():
    mask, options = outlined(2), Options(min_probability={"cyst": 0.5})
    found, remarks = filter_mask(mask, Geometry.regular(mask.shape), CLASSES, options, {"liver": 0.1})
    assert found is mask
    assert remarks == ["cyst has no label probability: its least one of 0.5 was not used"]


@pytest.mark.parametrize(
    ("merged", "expected"),
    [
        ("mask", {1: 0.7}),  # one outline for both: the more probable label counts
        ("labels", {1: 0.9, 2: 0.9}),  # one label for both outlines
        ("", {1: 0.2, 2: 0.7}),
    ],
)
def test_merged_classes_share_their_labels(merged, expected):
    merging = Merging({1: "any"}, {1: CLASSES})
    classes = MergedClasses(CLASSES, {merged: merging}) if merged else CLASSES
    labels = {"any": 0.9} if merged == "labels" else {"liver": 0.2, "cyst": 0.7}
    assert label_probabilities(classes, labels) == expected
