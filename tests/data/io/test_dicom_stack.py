"""Series whose positions and directions are rounded as real writers round."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from synthetic_dicom import oblique, write_series

from cphloc.data.io.read import read_volume
from cphloc.errors import DataError


@pytest.mark.parametrize("decimals", [1, 2, 3])
@pytest.mark.parametrize("step", [0.625, 0.7, 1.25, 2.0 / 3, 3.27])
def test_rounded_positions_have_the_step_of_simpleitk(tmp_path, step, decimals):
    positions = [[-125.123456, 3.5, round(-40 + step * k, decimals)] for k in range(30)]
    write_series(tmp_path, np.zeros((30, 4, 4), np.int16), ImagePositionPatient=positions)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    expected = reader.Execute().GetSpacing()[2]
    assert expected == pytest.approx(step, abs=0.01)
    assert read_volume(tmp_path).geometry.spacing_mm[0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("decimals", [2, 3, 4])
def test_rounded_directions_have_the_true_slice_positions(tmp_path, decimals):
    orientation, shape = oblique(20.3), (60, 5, 6)
    normal = np.cross(*orientation)
    positions = [(np.array([10.0, -20, 30]) + 2.5 * k * normal).round(6).tolist() for k in range(shape[0])]
    rounded = orientation.round(decimals)
    write_series(tmp_path, np.zeros(shape, np.int16), orientation=rounded, ImagePositionPatient=positions)
    found = read_volume(tmp_path).geometry
    assert found.spacing_mm[0] == pytest.approx(2.5, abs=1e-4)
    last = found.edges_to_world(np.array([shape[0] - 1, 0, 0]) + 0.5)
    np.testing.assert_allclose(last, positions[-1], atol=0.01)
    np.testing.assert_allclose(found.direction.T @ found.direction, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(found.direction[:, 1:].T, orientation[::-1], atol=1.5 * 10.0**-decimals)


def test_slices_that_differ_by_the_rounding_of_directions_are_one_series(tmp_path):
    flat = oblique(20.0).ravel()
    directions = [np.round(flat + e, 6).tolist() for e in (0, 2e-6, -2e-6, 4e-3)]
    normal = np.cross(*oblique(20.0))
    write_series(
        tmp_path,
        np.zeros((4, 5, 6), np.int16),
        ImageOrientationPatient=directions,
        ImagePositionPatient=[(3 * k * normal).tolist() for k in range(4)],
    )
    assert read_volume(tmp_path).geometry.shape == (4, 5, 6)


@pytest.mark.parametrize("step", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_a_missing_slice_of_a_rounded_series_is_refused(tmp_path, step, decimals):
    places = [round(step * k, decimals or 6) for k in range(20) if k != 7]
    positions = [[0.0, 0.0, z] for z in places]
    write_series(tmp_path, np.zeros((19, 4, 4), np.int16), ImagePositionPatient=positions)
    with pytest.raises(DataError, match="slices 1 missing between"):
        read_volume(tmp_path)


def test_a_small_tilt_of_exact_directions_is_refused(tmp_path):
    positions = [[0.0, 0.02 * k, 2.0 * k] for k in range(40)]
    exact = np.array([[1, 1.23e-4, 0], [-1.23e-4, 1, 0]])
    write_series(tmp_path, np.zeros((40, 4, 4), np.int16), orientation=exact, ImagePositionPatient=positions)
    with pytest.raises(DataError, match="gantry tilt"):
        read_volume(tmp_path)
