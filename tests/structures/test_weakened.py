"""Weaker rungs of a mask, against masks whose boxes and sides are known."""

from __future__ import annotations

import numpy as np
import pytest

from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.rung import Rung
from cphloc.structures.weakened import side, weakened

both = pytest.mark.parametrize("dims", [2, 3])


def drawn(dims):
    """A mask of 8 voxels along each axis with one object, in columns 5 and 6, and its grid."""
    mask = np.zeros((8,) * dims, np.uint8)
    mask[(*[slice(1, 3)] * (dims - 1), slice(5, 7))] = 1
    return mask, Geometry.regular(mask.shape)


@both
def test_each_rung_states_what_its_annotator_would_and_nothing_stronger(dims):
    mask, grid = drawn(dims)
    given = Annotation(mask=mask, label=np.array([1, 0], np.float32))
    assert weakened(given, grid, 2, Rung.MASK) is given
    boxes = weakened(given, grid, 2, Rung.BOXES)
    assert (boxes.rung, boxes.mask) == (Rung.BOXES, None)
    assert boxes.boxes.tolist() == [[*[1.0] * (dims - 1), 5.0, *[3.0] * (dims - 1), 7.0]]
    region = weakened(given, grid, 2, Rung.REGION)
    assert (region.rung, region.mask, region.boxes) == (Rung.REGION, None, None)
    assert np.array_equal(region.region, np.broadcast_to(np.arange(8) >= 4, mask.shape).astype(np.float32))
    label = weakened(given, grid, 2, Rung.LABEL)
    assert (label.rung, label.region) == (Rung.LABEL, None)
    for found in (boxes, region, label):
        assert found.label.tolist() == [1, 0]


@both
def test_what_was_not_looked_for_stays_unknown(dims):
    mask, grid = drawn(dims)
    given = Annotation(mask=mask, mask_known=np.array([True, False]))
    assert weakened(given, grid, 2, Rung.BOXES).boxes_known.tolist() == [True, False]
    label = weakened(given, grid, 2, Rung.LABEL).label
    assert label[0] == 1
    assert np.isnan(label[1])
    assert weakened(given, grid, 2, Rung.REGION).region is None  # a side would say where class 2 is not


@both
def test_a_weak_annotation_is_not_changed(dims):
    _, grid = drawn(dims)
    for given in (Annotation(label=np.ones(1, np.float32)), Annotation()):
        assert weakened(given, grid, 1, Rung.BOXES) is given


def test_the_side_is_that_of_the_patient_however_the_volume_is_stored():
    mask = np.zeros((4, 4, 6), np.float32)
    mask[1, 1, 5] = 1  # the patient's left: the last axis runs to the left
    grid = Geometry.regular(mask.shape)
    expected = side(mask, grid)
    assert expected[0, 0].tolist() == [0, 0, 0, 1, 1, 1]
    for order, flip in (((2, 0, 1), ()), ((0, 2, 1), (0, 1)), ((1, 2, 0), (2,)), ((2, 1, 0), (0, 1, 2))):
        stored = np.flip(np.transpose(mask, order), flip)
        found = side(stored, grid.reoriented(order, flip))
        assert np.array_equal(found, np.flip(np.transpose(expected, order), flip))


def test_the_middle_column_is_half_and_an_even_region_is_on_both_sides():
    grid = Geometry.regular((1, 5))
    assert side(np.array([[0.0, 0, 0, 1, 0]]), grid).tolist() == [[0, 0, 0.5, 1, 1]]
    assert side(np.array([[0.0, 1, 0, 1, 0]]), grid).tolist() == [[1, 1, 1, 1, 1]]
    assert side(np.zeros((1, 5)), grid).tolist() == [[0, 0, 0, 0, 0]]
