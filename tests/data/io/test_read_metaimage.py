"""MetaImage headers with every field that changes voxels or geometry, against SimpleITK."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from cphloc.data.io.read import read_volume
from cphloc.data.io.source_files import source_files
from cphloc.errors import DataError

VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
BASE = {
    "ObjectType": "Image",
    "NDims": 3,
    "DimSize": "4 3 2",
    "ElementType": "MET_SHORT",
    "ElementSpacing": "2 3 4",
    "Offset": "1 2 3",
}


def write(path, data: bytes = VOXELS.tobytes(), data_file: str = "LOCAL", **fields):
    lines = [f"{name} = {value}" for name, value in {**BASE, **fields, "ElementDataFile": data_file}.items()]
    path.write_bytes("\n".join(lines).encode() + b"\n" + data)


def assert_as_simpleitk(path):
    expected, found = sitk.ReadImage(str(path)), read_volume(path)
    np.testing.assert_array_equal(found.array[0], VOXELS)
    np.testing.assert_array_equal(found.array[0], sitk.GetArrayFromImage(expected))
    np.testing.assert_allclose(found.geometry.spacing_mm, expected.GetSpacing()[::-1])
    np.testing.assert_allclose(found.geometry.origin_mm, expected.GetOrigin())


@pytest.mark.parametrize("size", [5, -1])
def test_bytes_before_the_voxels_are_skipped(tmp_path, size):
    (tmp_path / "v.raw").write_bytes(b"HEADS" + VOXELS.tobytes())
    write(tmp_path / "a.mhd", b"", "v.raw", HeaderSize=size)
    assert_as_simpleitk(tmp_path / "a.mhd")
    (tmp_path / "v.raw").write_bytes(b"HEADS" + VOXELS.tobytes()[:-6])
    with pytest.raises(DataError, match="is truncated"):
        read_volume(tmp_path / "a.mhd")


def test_big_endian_and_text(tmp_path):
    write(tmp_path / "a.mha", VOXELS.astype(">i2").tobytes(), BinaryDataByteOrderMSB="True")
    assert_as_simpleitk(tmp_path / "a.mha")
    write(tmp_path / "b.mha", " ".join(map(str, VOXELS.ravel())).encode(), BinaryData="False")
    np.testing.assert_array_equal(read_volume(tmp_path / "b.mha").array[0], VOXELS)


@pytest.mark.parametrize("form", ["LIST", "v%d.raw 1 2 1"])
def test_voxels_in_several_files(tmp_path, form):
    for k, plane in enumerate(VOXELS, start=1):
        (tmp_path / f"v{k}.raw").write_bytes(plane.tobytes())
    write(tmp_path / "a.mhd", b"v1.raw\nv2.raw\n" if form == "LIST" else b"", form)
    assert_as_simpleitk(tmp_path / "a.mhd")
    assert [p.name for p in source_files(tmp_path / "a.mhd")] == ["a.mhd", "v1.raw", "v2.raw"]
    (tmp_path / "v2.raw").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.mhd: .*is truncated"):
        read_volume(tmp_path / "a.mhd")


def test_compressed_voxels(tmp_path):
    data = zlib.compress(VOXELS.tobytes())
    write(tmp_path / "a.mha", data, CompressedData="True", CompressedDataSize=len(data))
    assert_as_simpleitk(tmp_path / "a.mha")
    write(tmp_path / "b.mha", data, CompressedData="True")  # ITK returns undefined voxels
    np.testing.assert_array_equal(read_volume(tmp_path / "b.mha").array[0], VOXELS)


def test_units_are_converted_to_mm(tmp_path):
    write(tmp_path / "a.mha", DistanceUnits="cm")
    found = read_volume(tmp_path / "a.mha").geometry
    np.testing.assert_allclose(found.spacing_mm, (40, 30, 20))
    np.testing.assert_allclose(found.origin_mm, (10, 20, 30))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"DistanceUnits": "ell"}, "its DistanceUnits 'ell' are none of"),
        ({"ElementToIntensityFunctionSlope": 2}, "to be rescaled .ElementToIntensityFunctionSlope = 2."),
        ({"ElementType": "MET_OTHER"}, "a header field is missing or invalid: 'MET_OTHER'"),
    ],
)
def test_what_is_not_read_is_refused(tmp_path, fields, message):
    write(tmp_path / "a.mha", **fields)
    with pytest.raises(DataError, match=rf"a\.mha: .*{message}"):
        read_volume(tmp_path / "a.mha")
