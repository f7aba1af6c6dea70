"""Channels on grids of their own, against SimpleITK's resampling."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from synthetic_dicom import write_series

from cphloc.data.case import Case, read_case
from cphloc.data.io.channels import _covered, scaled
from cphloc.data.io.itk import to_itk
from cphloc.data.io.read import read_volume
from cphloc.data.io.write import write_map
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Scan, Volume, reoriented

CT = Geometry.regular((8, 24, 24), (3.0, 1.0, 1.0))


def coarse(shift: float = 1.5) -> Geometry:
    return Geometry((8, 6, 6), (3.0, 4.0, 4.0), (shift, shift, 0.0), np.eye(3)[::-1])


def volume(grid: Geometry, seed: int = 0, **scan) -> Volume:
    values = np.random.default_rng(seed).normal(size=(1, *grid.shape)).astype(np.float32)
    return Volume(values, grid, source=f"image {seed}", scan=Scan(**scan))


@pytest.mark.parametrize(("order", "flip"), [((0, 1, 2), ()), ((2, 0, 1), (1,))])
def test_a_channel_is_resampled_to_the_grid_of_the_first_as_simpleitk_does(tmp_path, order, flip):
    first, second = volume(CT), volume(coarse(), 1)
    stored = coarse().reoriented(order, flip)
    write_map(tmp_path / "ct.nii.gz", first.array[0], CT)
    write_map(tmp_path / "pet.nii.gz", reoriented(second.array[0], order, flip), stored)
    files = [tmp_path / "ct.nii.gz", tmp_path / "pet.nii.gz"]
    reference = to_itk(first.array[0], CT)
    lowest = float(second.array.min())
    moved = sitk.Resample(to_itk(second.array[0], coarse()), reference, sitk.Transform(), sitk.sitkLinear, lowest)
    for joined in (read_volume(files), read_case(Case("a", "p", tuple(files)))[0]):
        assert joined.geometry.same_grid(CT)
        np.testing.assert_array_equal(joined.array[0], first.array[0])
        np.testing.assert_allclose(joined.array[1], sitk.GetArrayFromImage(moved), atol=1e-4)


@pytest.mark.parametrize("shift", [0, 4, -4, 8])
def test_the_share_that_a_channel_covers(shift):
    target = Geometry.regular((4, 10, 10), (3.0, 1.0, 1.0))
    assert _covered(replace(target, origin_mm=(target.origin_mm[0] + shift, *target.origin_mm[1:])), target) == (
        pytest.approx(1 - abs(shift) / 10)
    )


def test_a_factor_multiplies_values_and_window():
    moved = scaled(replace(volume(CT), window=(40.0, 400.0)), 100)
    np.testing.assert_allclose(moved.array, 100 * volume(CT).array)
    assert moved.window == (4000.0, 40_000.0)


def test_channels_on_one_grid_stay_as_they_are():
    joined = read_volume([volume(CT), volume(CT, 1)])
    np.testing.assert_array_equal(joined.array, np.concatenate([volume(CT).array, volume(CT, 1).array]))


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (volume(coarse(), 1, frame="2.2"), "another frame of reference"),
        (volume(CT, 1, frame="2.2"), "another frame of reference"),
        (volume(CT, 1, frame="1.1", patient="q"), "another patient"),
        (volume(coarse(200.0), 1), "covers 0 % of the first channel"),
        (Volume(np.zeros((1, 4, 4, 4)), Geometry.regular((4, 4, 4), unit="px")), "states no position"),
    ],
)
def test_channels_without_common_coordinates_are_refused(second, reason):
    with pytest.raises(DataError, match=reason):
        read_volume([volume(CT, frame="1.1", patient="p"), second])


def test_series_of_one_frame_of_reference_are_joined_and_those_of_two_are_not(tmp_path):
    write_series(tmp_path / "ct", np.zeros((5, 12, 12), np.int16), (3.0, 1.0, 1.0), RescaleIntercept=-1024)
    write_series(tmp_path / "pet", np.ones((5, 6, 6), np.int16), (3.0, 2.0, 2.0), modality="PT")
    write_series(tmp_path / "other", np.ones((5, 6, 6), np.int16), modality="PT", FrameOfReferenceUID="9.9")
    assert read_volume([tmp_path / "ct", tmp_path / "pet"]).array.shape == (2, 5, 12, 12)
    with pytest.raises(DataError, match="another frame of reference"):
        read_volume([tmp_path / "ct", tmp_path / "other"])


@pytest.mark.parametrize("shape", [(6, 7, 8, 3), (6, 7, 8, 1, 3), (6, 7, 1, 3)], ids=["4-D", "vector", "4-D slice"])
def test_volumes_and_vectors_of_nifti_are_channels(tmp_path, shape):
    values = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0])), tmp_path / "all.nii.gz")
    read = read_volume(tmp_path / "all.nii.gz")
    expected = values.reshape(*shape[:3], shape[-1])
    assert read.geometry.shape == expected.shape[2::-1]
    np.testing.assert_array_equal(read.array, np.moveaxis(expected, -1, 0).swapaxes(1, 3))


def test_several_volumes_of_vectors_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 2, 3), np.int16), np.eye(4)), tmp_path / "flow.nii.gz")
    with pytest.raises(DataError, match="series of 2 volumes with several values per voxel"):
        read_volume(tmp_path / "flow.nii.gz")
