from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from cphloc.data.io.read import read_mask, read_volume
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_lossless_pictures(tmp_path, suffix: str, pixels: np.ndarray):
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    volume = read_volume(tmp_path / f"a{suffix}", dims=2)
    np.testing.assert_array_equal(volume.array, pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))
    assert volume.geometry.unit == "px"


def test_sixteen_bits_are_kept(tmp_path):
    pixels = GREY.astype(np.uint16) * 257
    for suffix in (".png", ".tif"):
        Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(read_volume(tmp_path / f"a{suffix}").array[0], pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_sixteen_bits_are_kept(tmp_path, suffix: str, channels: int):
    pixels = np.random.default_rng(0).integers(0, 2**16, (5, 7, channels)).astype(np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / f"a{suffix}"))
    found = read_volume(tmp_path / f"a{suffix}").array
    np.testing.assert_array_equal(found, np.moveaxis(pixels[..., :3], -1, 0))


def test_transparency_is_left_out_and_bilevel_becomes_numbers(tmp_path):
    Image.fromarray(np.dstack([COLOUR, GREY])).save(tmp_path / "rgba.png")
    Image.fromarray(np.dstack([GREY, GREY])).save(tmp_path / "la.png")
    Image.fromarray(GREY > 100).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "rgba.png").array, np.moveaxis(COLOUR, -1, 0))
    np.testing.assert_array_equal(read_volume(tmp_path / "la.png").array[0], GREY)
    np.testing.assert_array_equal(read_volume(tmp_path / "bits.png").array[0], GREY > 100)


def test_a_camera_held_sideways_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # orientation: the file's first row is the picture's right side
    Image.fromarray(np.repeat(np.repeat(GREY, 8, 0), 8, 1)).save(tmp_path / "a.jpg", exif=exif, quality=100)
    assert read_volume(tmp_path / "a.jpg").geometry.shape == (56, 40)


def test_a_palette_picture_is_colour_as_an_image_and_labels_as_a_mask(tmp_path):
    labels = GREY % 4
    picture = Image.fromarray(labels, mode="P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    picture.save(tmp_path / "a.png")
    assert read_volume(tmp_path / "a.png").channels == 3
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", Geometry.regular((5, 7), unit="px")), labels)


def test_a_mask_of_black_and_white_is_zero_and_one(tmp_path):
    like = Geometry.regular((5, 7), unit="px")
    Image.fromarray(np.where(GREY > 100, 255, 0).astype(np.uint8)).save(tmp_path / "bw.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "bw.png", like), GREY > 100)
    unknown = np.where(GREY > 100, 255, 1).astype(np.uint8)
    Image.fromarray(unknown).save(tmp_path / "ignore.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "ignore.png", like), unknown)


def test_damaged_and_many_paged_pictures_are_refused(tmp_path):
    Image.fromarray(np.tile(COLOUR, (20, 20, 1))).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-900])
    with pytest.raises(DataError, match=r"b\.jpg: cannot be read as a picture \(.*truncated"):
        read_volume(tmp_path / "b.jpg")
    Image.fromarray(GREY).save(tmp_path / "c.tif", save_all=True, append_images=[Image.fromarray(GREY)])
    with pytest.raises(DataError, match=r"c\.tif: has several pages"):
        read_volume(tmp_path / "c.tif")
    with pytest.raises(DataError, match="is a 2-D image but a volume is needed"):
        read_volume(tmp_path / "a.jpg", dims=3)
