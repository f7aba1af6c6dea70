"""Every kind of DICOM pixel data, against pydicom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.uid import ParametricMapStorage
from synthetic_dicom import group, image, write_series

from cphloc.data.io.read import read_volume
from cphloc.errors import DataError

RNG = np.random.default_rng(0)
FLAT = {"PixelSpacing": [1, 1]}


def stored(path: Path, dataset: Dataset) -> np.ndarray:
    """Write a file and read its pixels with pydicom."""
    dataset.save_as(path)
    return dcmread(path).pixel_array


def floats(pixels: np.ndarray, name: str, bits: int, **tags) -> Dataset:
    """A parametric map of one plane."""
    dataset = image(np.zeros(pixels.shape, np.uint16), "MR", SOPClassUID=ParametricMapStorage, **FLAT, **tags)
    for unused in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, unused)
    dataset.BitsAllocated = bits
    setattr(dataset, name, pixels.tobytes())
    return dataset


@pytest.mark.parametrize(("name", "dtype"), [("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)])
def test_float_pixels_keep_their_values(tmp_path, name, dtype):
    expected = stored(tmp_path / "a.dcm", floats(RNG.normal(size=(5, 6)).astype(dtype), name, 8 * dtype().itemsize))
    np.testing.assert_allclose(read_volume(tmp_path / "a.dcm").array[0], expected, rtol=1e-6)


def test_padding_of_float_pixels_is_the_lowest_value(tmp_path):
    values = np.array([[np.nan, 2.0], [3.0, 4.0]], np.float32)
    floats(values, "FloatPixelData", 32, FloatPixelPaddingValue=float("nan")).save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array[0], [[2, 2], [3, 4]])


def test_a_parametric_map_has_its_real_values(tmp_path):
    mapping = group(RealWorldValueSlope=0.5, RealWorldValueIntercept=3.0)
    expected = stored(tmp_path / "a.dcm", floats(np.ones((2, 3), np.float32), "FloatPixelData", 32)) * 0.5 + 3
    dataset = dcmread(tmp_path / "a.dcm")
    dataset.RealWorldValueMappingSequence = [mapping]
    dataset.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array[0], expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_becomes_colours(tmp_path, bits):
    tables = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (
            ("Descriptor", [256, 0, bits]),
            ("Data", RNG.integers(0, 2**bits, 256).astype(f"<u{bits // 8}").tobytes()),
        )
    }
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PhotometricInterpretation": "PALETTE COLOR"}
    pixels = RNG.integers(0, 256, (4, 6)).astype(np.uint8)
    indices = stored(tmp_path / "a.dcm", image(pixels, "US", **FLAT, **eight, **tables))
    expected = apply_color_lut(indices, dcmread(tmp_path / "a.dcm"))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array, np.moveaxis(expected, -1, 0))


@pytest.mark.parametrize("dtype", [np.uint32, np.int32])
def test_pixels_of_32_bits_keep_their_values(tmp_path, dtype):
    wide = {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}
    limits = np.iinfo(dtype)
    pixels = np.array([[limits.min, 1], [70000, limits.max]], dtype)
    expected = stored(tmp_path / "a.dcm", image(pixels, "MR", **FLAT, **wide))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array[0], expected)


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_above_those_stored_do_not_count(tmp_path, signed):
    pixels = np.array([[0x8FFF, 0x0001], [0xF800, 0x17FF]], np.uint16)
    twelve = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": signed}
    expected = stored(tmp_path / "a.dcm", image(pixels, "MR", **FLAT, **twelve))
    assert np.abs(expected.astype(int)).max() < 4096
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array[0], expected)


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_are_the_same_in_either_planar_configuration(tmp_path, planar):
    pixels = RNG.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    layout = pixels if planar == 0 else np.moveaxis(pixels, -1, 0)
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 3, "PlanarConfiguration": planar}
    dataset = image(pixels, "US", PhotometricInterpretation="RGB", **FLAT, **eight, PixelData=layout.tobytes())
    assert (stored(tmp_path / "a.dcm", dataset) == pixels).all()
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array, np.moveaxis(pixels, -1, 0))


def test_ybr_becomes_rgb_and_other_colour_spaces_are_refused(tmp_path):
    pixels = RNG.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    expected = stored(tmp_path / "a.dcm", image(pixels, "US", PhotometricInterpretation="YBR_FULL", **FLAT, **eight))
    assert (expected != pixels).any()
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array, np.moveaxis(expected, -1, 0))
    image(pixels, "US", PhotometricInterpretation="HSV", **FLAT, **eight).save_as(tmp_path / "b.dcm")
    with pytest.raises(DataError, match=r"b\.dcm: has 3 samples per pixel in the colour space 'HSV'; convert it"):
        read_volume(tmp_path / "b.dcm")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_modality_lut_is_applied_before_inversion(tmp_path, photometric):
    table = group(LUTDescriptor=[4, 0, 16], LUTData=np.array([5, 10, 20, 65535], "<u2").tobytes(), ModalityLUTType="US")
    kind = {"PhotometricInterpretation": photometric, "ModalityLUTSequence": [table]}
    pixels = np.array([[0, 1], [2, 3]], np.uint16)
    expected = apply_modality_lut(stored(tmp_path / "a.dcm", image(pixels, "DX", **FLAT, **kind)), Dataset())
    expected = apply_modality_lut(expected, dcmread(tmp_path / "a.dcm")).astype(int)
    if photometric == "MONOCHROME1":
        expected = 65535 - expected
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array[0], expected)


def test_hounsfield_units_are_not_inverted_for_display(tmp_path):
    pixels = np.array([[0, 100], [200, 300]], np.int16)
    image(pixels, PhotometricInterpretation="MONOCHROME1", **FLAT, WindowCenter=40, WindowWidth=80).save_as(
        tmp_path / "a.dcm"
    )
    volume = read_volume(tmp_path / "a.dcm")
    np.testing.assert_array_equal(volume.array[0], pixels)
    assert volume.window == (40, 80)


def test_a_slice_of_padding_alone_has_the_lowest_value_of_the_series(tmp_path):
    pixels = np.stack([np.full((3, 3), 9000), np.arange(9).reshape(3, 3) + 5]).astype(np.int16)
    write_series(tmp_path, pixels, modality="MR", PixelPaddingValue=9000)
    assert (read_volume(tmp_path).array[0, 0] == 5).all()


def test_a_mosaic_is_refused(tmp_path):
    image(np.zeros((8, 8), np.uint16), "MR", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"], **FLAT).save_as(
        tmp_path / "a.dcm"
    )
    with pytest.raises(DataError, match="is a mosaic, several slices side by side in one picture; convert it"):
        read_volume(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("tags", "window"),
    [
        ({"WindowCenter": 40, "WindowWidth": 400}, (40.0, 400.0)),
        ({"WindowCenter": 40}, None),
        ({"WindowWidth": 400}, None),
        ({"WindowCenter": 40, "WindowWidth": 0}, None),
    ],
)
def test_a_display_window_needs_a_centre_and_a_width(tmp_path, tags, window):
    write_series(tmp_path / "scan", np.zeros((3, 4, 5), np.int16), **tags)
    assert read_volume(tmp_path / "scan").window == window
