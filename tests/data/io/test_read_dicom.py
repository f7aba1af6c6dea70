from __future__ import annotations

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.uid import EnhancedCTImageStorage, JPEG2000Lossless, JPEGLSLossless, RLELossless
from synthetic_dicom import UPRIGHT, group, image, oblique, write_series

from cphloc.data.io.read import read_volume
from cphloc.data.pipeline.intensity import Unchanged
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.errors import DataError, MissingExtraError
from cphloc.structures.geometry import Geometry

SPACING = (3.0, 0.7, 1.1)
ORIGIN = (-30.0, 20.0, 100.0)


def ellipsoid(shape=(20, 40, 30), centre=(11, 17, 12), radii=(3, 6, 4)) -> np.ndarray:
    """Brightness from 0 to 1 that fades with the squared distance, so that interpolation moves no weight."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    return np.exp(-(((index - np.asarray(centre)) / radii) ** 2).sum(-1))


def world(k: float, row: float, column: float, orientation: np.ndarray) -> np.ndarray:
    """Centre of a voxel by the DICOM standard's own equation (PS3.3 C.7.6.2.1.1)."""
    along_columns, along_rows = orientation
    normal = np.cross(along_columns, along_rows)
    return ORIGIN + column * SPACING[2] * along_columns + row * SPACING[1] * along_rows + k * SPACING[0] * normal


@pytest.mark.parametrize(
    "orientation", [UPRIGHT, oblique(), UPRIGHT[::-1], -UPRIGHT], ids=["axial", "oblique", "transposed", "flipped"]
)
def test_a_shuffled_series_with_slopes_keeps_values_and_places(tmp_path, orientation: np.ndarray):
    stored = (1200 * ellipsoid() + 100).astype(np.uint16) + np.arange(20, dtype=np.uint16)[:, None, None]
    slopes, intercepts = [1.0 + k / 10 for k in range(20)], [-1000.0 - k for k in range(20)]
    write_series(tmp_path, stored, SPACING, ORIGIN, orientation, RescaleSlope=slopes, RescaleIntercept=intercepts)
    volume = read_volume(tmp_path, dims=3)
    expected = np.maximum(stored * np.array(slopes)[:, None, None] + np.array(intercepts)[:, None, None], -1024)
    np.testing.assert_allclose(volume.array[0], expected, rtol=1e-6)
    np.testing.assert_allclose(volume.geometry.spacing_mm, SPACING, atol=1e-6)
    assert volume.modality == "CT"
    for index in [(0, 0, 0), (19, 39, 29), (3, 20, 7)]:
        found = volume.geometry.edges_to_world(np.asarray(index) + 0.5)
        np.testing.assert_allclose(found, world(*index, orientation), atol=1e-4)


@pytest.mark.parametrize("orientation", [UPRIGHT, oblique()], ids=["axial", "oblique"])
def test_an_ellipsoid_keeps_its_centroid_through_nifti_and_the_models_frame(tmp_path, orientation: np.ndarray):
    write_series(tmp_path / "series", np.rint(30000 * ellipsoid()).astype(np.int16), SPACING, ORIGIN, orientation)
    centroid = world(11, 17, 12, orientation)
    volume = read_volume(tmp_path / "series")
    # SimpleITK is the independent reader, and writes the NIfTI.
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    sitk.WriteImage(reader.Execute(), str(tmp_path / "scan.nii.gz"))
    converted = read_volume(tmp_path / "scan.nii.gz")
    assert converted.geometry.same_grid(volume.geometry, tolerance_mm=0.01)
    np.testing.assert_array_equal(converted.array, volume.array)
    prepared = Preprocess(3, (1.0, 1.0, 1.0), [Unchanged()])(converted)
    index = np.moveaxis(np.indices(prepared.geometry.shape), 0, -1) + 0.5
    weights = prepared.array[0][..., None]
    found = (prepared.geometry.edges_to_world(index) * weights).sum((0, 1, 2)) / weights.sum()
    np.testing.assert_allclose(found, centroid, atol=0.01)


def test_the_distance_of_slices_comes_from_positions_not_from_thickness(tmp_path):
    write_series(tmp_path, np.zeros((4, 5, 6), np.int16), (1.5, 0.7, 1.1), SliceThickness=3.0)
    assert read_volume(tmp_path).geometry.spacing_mm == pytest.approx((1.5, 0.7, 1.1))


def test_padding_outside_the_scanners_field_of_view_is_air(tmp_path):
    stored = np.full((3, 4, 4), 40, np.int16)
    stored[:, 0] = -2000
    stored[:, 1] = -1500
    write_series(tmp_path, stored, PixelPaddingValue=-2000)
    found = read_volume(tmp_path).array[0]
    assert (found[:, :2] == -1024).all()
    assert (found[:, 2:] == 40).all()


def test_a_pet_series_with_a_slope_per_slice_is_float32(tmp_path):
    slopes = [0.01, 0.5, 2.25]
    write_series(tmp_path, np.full((3, 4, 4), 100, np.int16), modality="PT", RescaleSlope=slopes, RescaleIntercept=0)
    volume = read_volume(tmp_path)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[0, :, 0, 0], [1, 50, 225], rtol=1e-6)


def test_a_monochrome1_mammogram_is_2d_bright_where_dense_with_its_window(tmp_path):
    stored = np.array([[0, 1000], [4000, 4095]], np.uint16)
    tags = {
        "BitsStored": 12,
        "HighBit": 11,
        "ImagerPixelSpacing": [0.07, 0.07],
        "WindowCenter": 3000,
        "WindowWidth": 500,
    }
    image(stored, "MG", PhotometricInterpretation="MONOCHROME1", **tags).save_as(tmp_path / "cc.dcm")
    volume = read_volume(tmp_path / "cc.dcm", dims=2)
    np.testing.assert_array_equal(volume.array[0], [[4095, 3095], [95, 0]])
    assert volume.geometry.spacing_mm == (0.07, 0.07)
    assert volume.window == (1095.0, 500.0)


def test_a_signed_monochrome1_image_is_inverted_about_minus_a_half(tmp_path):
    stored = np.array([[-5, 0], [3, 100]], np.int16)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "PixelSpacing": [1, 1]}
    image(stored, "MR", **tags).save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm", dims=2).array[0], [[4, -1], [-4, -101]])


def colour(pixels: np.ndarray, **tags):
    """An ultrasound picture of ``pixels`` (H, W, 3)."""
    eight_bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    samples = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    return image(pixels, "US", **eight_bits, **samples, **tags)


def test_a_colour_image_has_its_three_channels_first(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    colour(pixels, PixelSpacing=[1, 1]).save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm", dims=2).array, np.moveaxis(pixels, -1, 0))


def test_a_colour_series_is_a_volume_of_three_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3)).astype(np.uint8)
    for k, plane in enumerate(pixels):
        place = {"ImagePositionPatient": [0, 0, 2 * k], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        colour(plane, PixelSpacing=[1, 1], **place).save_as(tmp_path / f"{k}.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path, dims=3).array, np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=lambda s: s.name)
def test_compressed_pixels_are_the_same(tmp_path, syntax):
    stored = np.random.default_rng(0).integers(0, 4000, (3, 64, 48)).astype(np.uint16)
    for path in write_series(tmp_path, stored, RescaleIntercept=-1024):
        dataset = dcmread(path)
        dataset.compress(syntax)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_volume(tmp_path).array[0], stored.astype(int) - 1024)


def test_a_missing_decoder_is_named_with_the_extra_that_brings_it(tmp_path, monkeypatch):
    dataset = image(np.zeros((64, 64), np.uint16))
    dataset.compress(JPEG2000Lossless)
    dataset.save_as(tmp_path / "a.dcm")
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(MissingExtraError, match=r"a\.dcm: decoding JPEG 2000.*pip install 'cphloc\[dicom\]'"):
        read_volume(tmp_path / "a.dcm")


def test_an_enhanced_multiframe_file_is_a_volume_whatever_the_order_of_its_frames(tmp_path):
    stored = np.arange(5 * 4 * 6, dtype=np.uint16).reshape(5, 4, 6)
    order = [3, 0, 4, 1, 2]
    frames = [
        group(
            PlanePositionSequence=[group(ImagePositionPatient=[0.0, 0.0, 2.5 * k])],
            PixelValueTransformationSequence=[group(RescaleSlope=2, RescaleIntercept=-k)],
        )
        for k in order
    ]
    shared = group(
        PlaneOrientationSequence=[group(ImageOrientationPatient=[1.0, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[group(PixelSpacing=[0.5, 0.8])],
    )
    dataset = image(stored[0], SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=5, PixelData=stored[order].tobytes())
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.save_as(tmp_path / "enhanced.dcm")
    volume = read_volume(tmp_path / "enhanced.dcm", dims=3)
    np.testing.assert_array_equal(volume.array[0], stored.astype(int) * 2 - np.arange(5)[:, None, None])
    assert volume.geometry.same_grid(Geometry.regular((5, 4, 6), (2.5, 0.5, 0.8)))


def test_one_series_of_several_is_chosen_by_its_uid(tmp_path):
    write_series(tmp_path / "a", np.zeros((3, 4, 4), np.int16), series="1.2.3.10")
    write_series(tmp_path / "b", np.ones((5, 4, 4), np.int16), series="1.2.3.11", modality="MR")
    image(np.zeros((2, 2), np.uint16), "RTSTRUCT", series="1.2.3.12", Rows=None).save_as(tmp_path / "RS.dcm")
    with pytest.raises(DataError, match=r"contains 2 series.*1\.2\.3\.10 \(CT, 'synthetic CT', 3 files\)"):
        read_volume(tmp_path)
    assert read_volume(f"{tmp_path}#1.2.3.11").geometry.shape == (5, 4, 4)
    assert read_volume(tmp_path, series="1.2.3.10").geometry.shape == (3, 4, 4)
    with pytest.raises(DataError, match=r"contains no series 1\.2\.3\.1; it contains"):
        read_volume(tmp_path, series="1.2.3.1")


def test_a_missing_slice_is_named_by_its_neighbours(tmp_path):
    paths = write_series(tmp_path, np.zeros((6, 4, 4), np.int16))
    paths[3].unlink()
    with pytest.raises(
        DataError, match=rf"1 missing between {paths[2].name} at 106.00 mm and {paths[4].name} at 112.00"
    ):
        read_volume(tmp_path)


def test_the_first_of_two_gaps_is_named(tmp_path):
    paths = write_series(tmp_path, np.zeros((12, 4, 4), np.int16))
    for k in (3, 7, 8):
        paths[k].unlink()
    with pytest.raises(DataError, match=rf"1 missing between {paths[2].name} at 106.00 mm and {paths[4].name} at "):
        read_volume(tmp_path)


def test_a_doubled_slice_is_named(tmp_path):
    paths = write_series(tmp_path, np.zeros((6, 4, 4), np.int16))
    shutil.copy(paths[2], tmp_path / "copy.dcm")
    with pytest.raises(DataError, match=r"are at the same position 106\.00 mm; remove one"):
        read_volume(tmp_path)


def test_several_time_points_in_one_series_are_told_apart_from_a_doubled_slice(tmp_path):
    write_series(tmp_path / "first", np.zeros((4, 4, 4), np.int16))
    write_series(tmp_path / "second", np.zeros((4, 4, 4), np.int16))
    with pytest.raises(DataError, match="several images per position"):
        read_volume(tmp_path)


def test_uneven_gaps_are_refused(tmp_path):
    positions = [[0.0, 0.0, z] for z in (0, 3, 6, 9.2, 12.2)]
    write_series(tmp_path, np.zeros((5, 4, 4), np.int16), ImagePositionPatient=positions)
    with pytest.raises(DataError, match="slices uneven between"):
        read_volume(tmp_path)


def test_a_tilted_gantry_is_refused(tmp_path):
    positions = [[0.0, 0.5 * k, 2.0 * k] for k in range(5)]
    write_series(tmp_path, np.zeros((5, 4, 4), np.int16), ImagePositionPatient=positions)
    with pytest.raises(DataError, match=r"gantry tilt of 14\.0"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"ImageOrientationPatient": [[1.0, 0, 0, 0, 1, 0]] * 3 + [[0.0, 1, 0, 0, 0, -1]]}, "different orientations"),
        ({"PixelSpacing": [[1.0, 1.0]] * 3 + [[2.0, 2.0]]}, "different pixel spacings"),
        ({"PixelSpacing": None}, "lacks the tag PixelSpacing"),
        ({"ImagePositionPatient": None}, "lacks the tag ImagePositionPatient"),
        ({"RescaleSlope": "0"}, "not a valid number"),
        (
            {"PatientID": ["a", "a", "b", "b"]},
            r"different patients in one series \('a' in .*, 'b' in .*separate folders",
        ),
        ({"FrameOfReferenceUID": ["1.2", "1.3", "1.3", "1.3"]}, "different frames of reference"),
        ({"Modality": "PT", "Units": ["BQML", "GML", "GML", "GML"]}, "different units"),
    ],
    ids=[
        *("a localizer among slices", "two resolutions", "no spacing", "no position", "slope of zero"),
        *("two patients", "two frames of reference", "two units"),
    ],
)
def test_series_that_are_no_volume_are_refused(tmp_path, tags: dict, message: str):
    write_series(tmp_path, np.zeros((4, 4, 4), np.int16), **tags)
    with pytest.raises(DataError, match=message):
        read_volume(tmp_path)


def test_foreign_and_damaged_files_among_slices_are_named(tmp_path):
    paths = write_series(tmp_path, np.zeros((4, 4, 4), np.int16))
    (tmp_path / "notes.txt").write_text("exported on Monday")
    assert read_volume(tmp_path).geometry.shape == (4, 4, 4)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) - 10])
    with pytest.raises(DataError, match=rf"{paths[1].name}: cannot be read as DICOM"):
        read_volume(tmp_path)
    paths[1].write_bytes(b"")
    with pytest.raises(DataError, match=rf"{paths[1].name}: is empty"):
        read_volume(tmp_path)


def test_folders_without_an_image_say_so(tmp_path):
    with pytest.raises(DataError, match="is an empty folder"):
        read_volume(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="contains 1 files but none is DICOM"):
        read_volume(tmp_path)


def test_one_slice_is_an_image_but_no_volume(tmp_path):
    path = write_series(tmp_path, np.zeros((3, 4, 5), np.int16))[0]
    assert read_volume(path).geometry.shape == (4, 5)
    with pytest.raises(DataError, match="is a 2-D image but a volume is needed"):
        read_volume(path, dims=3)


def test_files_without_a_suffix_are_known_by_their_mark(tmp_path):
    for path in write_series(tmp_path, np.arange(60, dtype=np.int16).reshape(3, 4, 5)):
        path.rename(path.with_suffix(""))
    np.testing.assert_array_equal(read_volume(tmp_path, dims=3).array[0], np.arange(60).reshape(3, 4, 5))


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_spacing_of_0_is_an_error_of_that_file(tmp_path, as_folder):
    image(np.zeros((8, 8), np.uint16), PixelSpacing=[0, 0]).save_as(tmp_path / "0.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match=rf"^{tmp_path}.*positive") as caught:
        read_volume(tmp_path if as_folder else tmp_path / "0.dcm")
    assert "\n" not in str(caught.value)
