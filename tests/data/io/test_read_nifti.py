"""NIfTI files written by nibabel."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from cphloc.data.io.read import read_volume
from cphloc.errors import DataError

STORED = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def write(path: Path, affine: np.ndarray, **header) -> Path:
    image = nibabel.Nifti1Image(STORED, None)
    image.set_qform(affine, code=1)
    image.set_sform(None, code=0)
    nibabel.save(image, path)
    if header:  # nibabel scales what it is given to fit the slope, so the bytes are changed
        content = bytearray(path.read_bytes())
        for name, value in header.items():
            place = {"scl_slope": 112, "scl_inter": 116}[name]
            content[place : place + 4] = np.float32(value).tobytes()
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("handedness", [1, -1])
def test_an_oblique_qform_places_voxels_where_nibabel_does(tmp_path, seed: int, handedness: int):
    rotation = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation * [0.7, 1.1, 3.0 * handedness]
    affine[:3, 3] = 10, -20, 30
    path = write(tmp_path / "a.nii", affine)
    geometry = read_volume(path).geometry
    for x, y, z in [(0, 0, 0), (1, 0, 0), (0, 2, 0), (0, 0, 3), (1, 2, 3)]:
        ras = nibabel.load(path).affine @ [x, y, z, 1]
        found = geometry.edges_to_world(np.array([z, y, x]) + 0.5)
        np.testing.assert_allclose(found, ras[:3] * [-1, -1, 1], atol=1e-4)


@pytest.mark.parametrize(
    ("slope", "inter", "expected"),
    [
        (0, 5, STORED),  # the standard: a slope of zero means that nothing is scaled
        (1, 0, STORED),
        (np.nan, 5, STORED),
        (-2, 5, 5 - 2.0 * STORED),
        (1, 5, STORED + 5),
        (0.5, 0, STORED / 2),
    ],
)
def test_values_are_scaled_by_slope_and_intercept(tmp_path, slope, inter, expected):
    volume = read_volume(write(tmp_path / "a.nii", np.diag([-1.0, -1, 1, 1]), scl_slope=slope, scl_inter=inter))
    np.testing.assert_array_equal(volume.array[0], expected.T)
    assert volume.array.dtype == (np.int16 if expected is STORED else np.float32)


def test_one_missing_byte_is_noticed(tmp_path):
    path = write(tmp_path / "a.nii", np.eye(4))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"truncated, 1 bytes are missing"):
        read_volume(path)


def test_complex_numbers_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(STORED.astype(np.complex64), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match="NIfTI datatype 32 is not a real number"):
        read_volume(tmp_path / "a.nii")


def test_a_picture_that_stands_upright_in_space_keeps_its_spacing_in_the_plane(tmp_path):
    coronal = np.array([[0.5, 0, 0, 0], [0, 0, 2, 0], [0, 0.8, 0, 0], [0, 0, 0, 1]])  # x to the right, y to the head
    nibabel.save(nibabel.Nifti1Image(STORED[..., 0], coronal), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii", dims=2)
    assert volume.geometry.spacing_mm == pytest.approx((0.8, 0.5))
    np.testing.assert_array_equal(volume.array[0], STORED[..., 0].T)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("suffix", [".hdr", ".hdr.gz"])
def test_a_pair_of_header_and_voxels_is_as_in_nibabel(tmp_path, kind, suffix):
    affine = np.array([[-2.0, 0, 0, 5], [0, 0, 3, 6], [0, 4, 0, 7], [0, 0, 0, 1]])
    pair = kind(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine)
    pair.header.set_slope_inter(2.0, 1.0)
    path = tmp_path / f"a{suffix}"
    nibabel.save(pair, path)
    expected, found = nibabel.load(path), read_volume(path)
    np.testing.assert_array_equal(found.array[0].T, expected.get_fdata())
    np.testing.assert_allclose(found.geometry.affine @ [0, 0, 0, 1], [-5, -6, 7, 1])
    for index in np.eye(3, dtype=int):
        place = expected.affine @ [*index, 1] * [-1, -1, 1, 1]
        np.testing.assert_allclose(found.geometry.affine @ [*index[::-1], 1], place)
    path.with_name("a.img" + suffix[4:]).unlink()
    with pytest.raises(DataError, match=r"its voxel file 'a\.img' is missing"):
        read_volume(path)


def test_an_analyze_header_has_no_orientation(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(np.zeros((2, 3, 4), np.int16), np.eye(4)), tmp_path / "a.img")
    with pytest.raises(DataError, match=r"a\.hdr: is an ANALYZE 7\.5 header, which has no orientation; convert"):
        read_volume(tmp_path / "a.hdr")


def test_an_undefined_unit_and_a_lost_intercept_are_refused(tmp_path):
    image = nibabel.Nifti1Image(np.ones((2, 3, 4), np.int16), np.eye(4))
    nibabel.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[123] = 5
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(DataError, match="code 5 of a unit of length"):
        read_volume(tmp_path / "a.nii")
    content[123] = 2
    content[112:120] = np.array([2, np.nan], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(DataError, match=r"slope 2 .* intercept nan"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("colours", ["RGB", "RGBA"])
def test_colours_are_the_channels(tmp_path, colours, dims):
    values = np.random.default_rng(0).integers(0, 256, (*(5, 4, 3)[:dims], len(colours)), np.uint8)
    stored = np.ascontiguousarray(values).view([(name, "u1") for name in colours])[..., 0]
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), tmp_path / "colour.nii.gz")
    found = read_volume(tmp_path / "colour.nii.gz").array
    np.testing.assert_array_equal(found, values.T[:3])


def test_a_series_of_volumes_in_any_format_is_its_channels(tmp_path):
    """A 4-D image of ITK, against SimpleITK's voxels and the geometry of its first volume."""
    volumes = [sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4) + 100 * k) for k in range(3)]
    for volume in volumes:
        volume.SetSpacing((2.0, 3.0, 4.0))
        volume.SetOrigin((5.0, 6.0, 7.0))
        volume.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    series = sitk.JoinSeries(volumes, 0.0, 2.5)
    for suffix in (".mha", ".mhd", ".nrrd", ".nhdr", ".nii.gz"):
        sitk.WriteImage(series, str(tmp_path / f"a{suffix}"))
        sitk.WriteImage(volumes[0], str(tmp_path / f"one{suffix}"))
        found, one = read_volume(tmp_path / f"a{suffix}"), read_volume(tmp_path / f"one{suffix}")
        np.testing.assert_array_equal(found.array, sitk.GetArrayFromImage(series), err_msg=suffix)
        np.testing.assert_allclose(found.geometry.affine, one.geometry.affine, atol=1e-5, err_msg=suffix)


def test_a_series_without_one_place_is_refused(tmp_path):
    vector = sitk.GetImageFromArray(np.zeros((2, 3, 4, 2), np.float32), isVector=True)
    sitk.WriteImage(sitk.JoinSeries([vector, vector]), str(tmp_path / "a.mha"))
    with pytest.raises(DataError, match=r"a\.mha: is a series of 2 volumes; split it"):
        read_volume(tmp_path / "a.mha")
    header = "NRRD0005\ntype: short\ndimension: 4\nsizes: 1 1 1 2\nencoding: ascii\nspace dimension: 4\n"
    (tmp_path / "a.nrrd").write_text(header + "space directions: (1,0,0,1) (0,1,0,0) (0,0,1,0) (0,0,0,1)\n\n1 2")
    with pytest.raises(DataError, match="four axes of space do not separate"):
        read_volume(tmp_path / "a.nrrd")


def test_what_a_header_states_twice_is_used_as_in_nibabel_and_said(tmp_path):
    path, sform = tmp_path / "a.nii", np.diag([-1.0, 2.0, 3.0, 1.0])

    def notes(qform: np.ndarray | None, pixdim: float = 1.0, form: np.ndarray | None = sform) -> str:
        image = nibabel.Nifti1Image(STORED, form)
        image.set_qform(qform, code=int(qform is not None))
        image.set_sform(form, code=int(form is not None))
        nibabel.save(image, path)
        content = bytearray(path.read_bytes())
        content[80:84] = np.float32(pixdim).tobytes()
        path.write_bytes(content)
        volume = read_volume(path)
        if form is not None:
            found = volume.geometry.affine @ [3, 2, 1, 1] * [-1, -1, 1, 1]
            np.testing.assert_allclose(found, nibabel.load(path).affine @ [1, 2, 3, 1], atol=1e-5)
        return " ".join(volume.notes)

    shifted, mirrored = sform.copy(), sform.copy()
    shifted[0, 3], mirrored[0, 0] = 4, 1
    assert notes(sform) == notes(None) == ""
    assert "qform and sform place it differently; sform is used" in notes(shifted)
    assert "pixdim states voxels of 5 x 2 x 3, and sform, which is used, 1 x 2 x 3" in notes(None, 5.0)
    assert "states neither sform nor qform" in notes(None, form=None)
    assert "qform and sform mirror each other, left or right is uncertain" in notes(mirrored)


def test_the_voxels_of_a_pair_point_to_their_header(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(STORED, np.eye(4)), tmp_path / "a.img")
    with pytest.raises(DataError, match=r"a\.img: holds only the voxels of a\.hdr; pass that file"):
        read_volume(tmp_path / "a.img")
