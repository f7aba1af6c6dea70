"""No object of a mask vanishes when it is resampled to larger voxels."""

from __future__ import annotations

import numpy as np
import pytest

from cphloc.data.pipeline.intensity import parse_intensity
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.data.pipeline.small_objects import with_lost_objects
from cphloc.structures.geometry import Geometry


@pytest.mark.parametrize("dims", [2, 3])
def test_every_object_keeps_a_voxel_where_it_was(dims):
    """Single voxels at every place of a cell of 4 voxels; resampling alone keeps only those at its middle."""
    places = [(4 * i + i % 4, 4 * j + j % 4, *(2,) * (dims - 2)) for i in range(4) for j in range(4)]
    mask = np.zeros((16,) * dims, np.uint8)
    for n, place in enumerate(places):
        mask[place] = 1 + n % 2
    preprocess = Preprocess(dims, (4.0,) * dims, parse_intensity("zscore", 1))
    geometry = Geometry.regular(mask.shape, (1.0,) * dims)
    order, flip = geometry.canonical()
    moved = preprocess.prepare_mask(mask, geometry)
    expected = np.zeros((4,) * dims, np.uint8)
    for n, place in enumerate(places):
        upright = [place[a] for a in order]
        cell = tuple((15 - p if a in flip else p) // 4 for a, p in enumerate(upright))
        expected[cell] = 1 + n % 2
    assert (moved == expected).all()


def test_what_is_larger_than_a_voxel_is_as_before():
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, 4:12] = 1
    moved = mask[2::4, 2::4].copy()
    found, lost = with_lost_objects(mask, moved)
    assert lost == 0
    assert (found == moved).all()


def test_smaller_voxels_lose_nothing():
    mask = np.eye(4, dtype=np.uint8)
    moved = np.kron(mask, np.ones((2, 2), np.uint8))
    assert with_lost_objects(mask, moved)[0] is moved
