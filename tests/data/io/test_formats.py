"""The table of file formats agrees with what the readers and writers do."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cphloc.data.io.formats import FORMATS, IMAGE_SUFFIXES, PICTURE_SUFFIXES, WRITTEN_IMAGE_SUFFIXES, image_format
from cphloc.data.io.read import read_mask, read_volume
from cphloc.data.io.write import write_mask
from cphloc.errors import DataError, InputError
from cphloc.structures.geometry import Geometry


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("suffix", WRITTEN_IMAGE_SUFFIXES)
def test_what_the_table_calls_written_is_written_and_read_back(tmp_path, suffix, dims):
    """The reader of the suffix gives back the labels; only a picture cannot hold a volume."""
    shape = (3, 4, 5)[:dims]
    geometry, mask = Geometry.regular(shape, (2.0, 1.5, 0.5)[:dims]), np.arange(np.prod(shape), dtype=np.uint8)
    path = tmp_path / f"mask{suffix}"
    if suffix == ".png" and dims == 3:
        with pytest.raises(InputError, match="PNG in 2-D only"):
            write_mask(path, mask.reshape(shape), geometry)
        return
    write_mask(path, mask.reshape(shape), geometry)
    assert np.array_equal(read_mask(path, like=geometry), mask.reshape(shape))
    read, stated = read_volume(path).geometry, image_format(path)
    assert stated is not None
    assert (read.unit == "mm") == stated.states_mm


@pytest.mark.parametrize("suffix", [*PICTURE_SUFFIXES, ".npy"])
def test_pictures_and_arrays_state_no_voxel_size(tmp_path, suffix):
    path, pixels = tmp_path / f"picture{suffix}", np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.save(path, pixels) if suffix == ".npy" else Image.fromarray(pixels).save(path)
    assert read_volume(path).geometry.unit == "px"
    assert not image_format(path).states_mm


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_damaged_file_reaches_the_reader_of_its_suffix(tmp_path, suffix):
    """Every suffix leads to a reader, which names the file in its error."""
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(b"no image at all")
    with pytest.raises(DataError, match=r"cannot be read|is not a readable") as caught:
        read_volume(path)
    assert str(path) in str(caught.value)


def test_the_message_about_an_unknown_format_names_every_suffix(tmp_path):
    """So the list in the message is the table's."""
    path = tmp_path / "scan.xyz"
    path.write_text("no image")
    with pytest.raises(DataError) as caught:
        read_volume(path)
    assert all(suffix in str(caught.value) for suffix in IMAGE_SUFFIXES)


def test_every_reader_and_writer_of_the_table_exists():
    """Formats that are read name a reader, those that are written a writer."""
    for one in FORMATS:
        assert bool(one.read) == (one.reader is not None), one.name
        assert bool(one.written) == (one.writer is not None), one.name
        assert not one.read or callable(one.load_reader())


def test_only_formats_of_several_files_list_them():
    several = [one for one in FORMATS if one.lister is not None]
    assert all(callable(one.load_lister()) for one in several)
    with pytest.raises(LookupError, match="PNG images are one file"):
        image_format(Path("a.png")).load_lister()
