"""Whatever happens to a file, reading gives a `Volume` or a `DataError` that names it: nothing else, and no noise."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.uid import RLELossless
from synthetic_dicom import image

from cphloc.data.io.itk import to_itk
from cphloc.data.io.read import read_volume
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

SCAN = np.random.default_rng(0).integers(-1000, 1000, (6, 16, 16)).astype(np.int16)


def _itk(path: Path, compressed: bool) -> None:
    sitk.WriteImage(to_itk(SCAN, Geometry.regular(SCAN.shape, (3.0, 0.7, 1.1))), str(path), compressed)


def _compressed_dicom(path: Path) -> None:
    dataset = image(SCAN[0].astype(np.uint16))
    dataset.compress(RLELossless)
    dataset.save_as(path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "scan.nii.gz": lambda p: _itk(p, True),
    "scan.nii": lambda p: _itk(p, False),
    "plain.nrrd": lambda p: _itk(p, False),
    "packed.nrrd": lambda p: _itk(p, True),
    "plain.mha": lambda p: _itk(p, False),
    "packed.mha": lambda p: _itk(p, True),
    "plain.dcm": lambda p: image(SCAN[0], PixelSpacing=[1.0, 1.0], RescaleSlope=2, RescaleIntercept=1).save_as(p),
    "packed.dcm": _compressed_dicom,
    "grey.png": lambda p: Image.fromarray(SCAN[0].astype(np.uint8)).save(p),
    "grey.jpg": lambda p: Image.fromarray(SCAN[0].astype(np.uint8)).save(p),
    "grey.tif": lambda p: Image.fromarray(SCAN[0].astype(np.uint16)).save(p),
    "array.npy": lambda p: np.save(p, SCAN),
}


def damages(content: bytes, rng: np.random.Generator):
    """Truncations anywhere, flipped bits in the header and anywhere, zeroed and doubled stretches."""
    for _ in range(12):
        yield content[: rng.integers(0, len(content))]
        for reach in (min(400, len(content)), len(content)):
            flipped = bytearray(content)
            for position in rng.integers(0, reach, rng.integers(1, 4)):
                flipped[position] ^= 1 << int(rng.integers(8))
            yield bytes(flipped)
        a, b = sorted(rng.integers(0, len(content), 2))
        yield content[:a] + b"\0" * (b - a) + content[b:]
        yield content[:b] + content[a:]


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_gives_a_volume_or_an_error_that_names_it(tmp_path, name: str, capfd):
    path = tmp_path / name
    WRITERS[name](path)
    content = path.read_bytes()
    assert isinstance(read_volume(path), Volume)
    messages = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for damaged in damages(content, np.random.default_rng(0)):
            path.write_bytes(damaged)
            try:
                assert np.isfinite(read_volume(path).array).all()
            except DataError as error:
                messages.append(str(error))
    assert len(messages) > 12
    assert all(str(path) in message and "\n" not in message for message in messages)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "name", ["scan.nii.gz", "scan.nii", "plain.nrrd", "packed.nrrd", "plain.mha", "packed.mha", "plain.dcm"]
)
def test_no_truncated_file_is_read(tmp_path, name: str):
    path = tmp_path / name
    WRITERS[name](path)
    content = path.read_bytes()
    for length in np.linspace(1, len(content) - 10, 25).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            read_volume(path)


@pytest.mark.parametrize("name", ["scan.nii.gz", "packed.nrrd", "packed.mha"])
def test_no_flipped_bit_in_compressed_voxels_goes_unseen(tmp_path, name: str):
    path = tmp_path / name
    WRITERS[name](path)
    content = bytearray(path.read_bytes())
    for position in np.linspace(len(content) // 2, len(content) - 10, 25).astype(int):
        content[position] ^= 16
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"compressed data|gzip data"):
            read_volume(path)
        content[position] ^= 16


def test_a_header_that_claims_a_huge_image_does_not_fill_the_memory(tmp_path):
    for name in ("scan.nii", "plain.nrrd", "plain.mha"):
        path = tmp_path / name
        WRITERS[name](path)
        content = path.read_bytes()
        if name == "scan.nii":
            content = content[:42] + np.array([30000] * 3, "<i2").tobytes() + content[48:]
        else:
            content = content.replace(b"16 16 6", b"30000 30000 30000")
        path.write_bytes(content)
        with pytest.raises(DataError, match="describes 30000 x 30000 x 30000"):
            read_volume(path)


def test_dicom_noise_is_silent(tmp_path, capfd, caplog):
    """Values that bend the standard (a 17-character SH) are warned about by pydicom; they do not matter here."""
    dataset = image(SCAN[0])
    with warnings.catch_warnings(action="ignore"):
        dataset.StudyID = "x" * 30
        dataset.save_as(tmp_path / "a.dcm")
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_volume(tmp_path / "a.dcm")
    assert capfd.readouterr() == ("", "")
