from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume, reoriented, reoriented_back


def volume(dims: int) -> Volume:
    shape = (4, 5, 6)[-dims:]
    upright = np.eye(dims)[::-1]
    direction = np.roll(upright, 1, axis=1) * np.array([-1, 1, -1])[-dims:]
    geometry = Geometry(shape, (2.0, 0.5, 1.0)[-dims:], (3.0, -7.0, 11.0)[:dims], direction)
    return Volume(np.arange(2 * np.prod(shape)).reshape(2, *shape), geometry)


both = pytest.mark.parametrize("dims", [2, 3])


@both
def test_canonical_moves_no_voxel_in_the_world(dims: int):
    before = volume(dims)
    after = before.canonical()
    assert np.shares_memory(before.array, after.array)
    np.testing.assert_allclose(after.geometry.direction, np.eye(dims)[::-1], atol=1e-12)
    for index in np.ndindex(after.geometry.shape):
        world = after.geometry.edges_to_world(np.array(index) + 0.5)
        old = tuple(np.floor(before.geometry.world_to_edges(world)).astype(int))
        np.testing.assert_array_equal(after.array[:, *index], before.array[:, *old])


@both
def test_reoriented_back_undoes_reoriented(dims: int):
    array = volume(dims).array
    order, flip = tuple(np.roll(range(dims), 1).tolist()), (0,)
    np.testing.assert_array_equal(reoriented_back(reoriented(array, order, flip), order, flip), array)


@both
def test_crop_keeps_voxels_where_they_are(dims: int):
    whole = volume(dims)
    part = whole.crop((1,) * dims, (2,) * dims)
    np.testing.assert_array_equal(part.array, whole.array[:, *(slice(1, 3),) * dims])
    np.testing.assert_allclose(
        part.geometry.edges_to_world(np.full(dims, 0.5)), whole.geometry.edges_to_world(np.full(dims, 1.5))
    )
    with pytest.raises(DataError, match="reaches outside"):
        whole.crop((3,) * dims, (4,) * dims)


def test_an_array_must_fit_its_grid():
    with pytest.raises(DataError, match=r"a\.nii: array of shape \(4, 5\) does not fit"):
        Volume(np.zeros((4, 5)), Geometry.regular((4, 5)), source="a.nii")


def test_a_volume_is_replaced_never_altered():
    with pytest.raises(FrozenInstanceError):
        volume(2).modality = "CT"
