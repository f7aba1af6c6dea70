"""NRRD headers with every field that changes voxels or geometry, against SimpleITK."""

from __future__ import annotations

import bz2
import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from cphloc.data.io.read import read_volume
from cphloc.errors import DataError

VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
BASE = {"type": "int16", "dimension": "3", "sizes": "4 3 2", "encoding": "raw", "endian": "little"}


def write(path, data: bytes | None = VOXELS.tobytes(), lines=(), **fields):
    """Write a header, with its data unless that is None; a keyword has _ for a space."""
    stated = BASE | {name.replace("_", " "): value for name, value in fields.items()}
    text = "\n".join(["NRRD0005", *(f"{name}: {value}" for name, value in stated.items() if value), *lines])
    path.write_bytes(text.encode() + b"\n" + (b"" if data is None else b"\n" + data))


def assert_as_simpleitk(path):
    expected, found = sitk.ReadImage(str(path)), read_volume(path)
    array = sitk.GetArrayFromImage(expected)
    channels = expected.GetNumberOfComponentsPerPixel()
    array = array[None] if channels == 1 else np.moveaxis(array, -1, 0)
    np.testing.assert_array_equal(found.array, array)
    np.testing.assert_allclose(found.geometry.spacing_mm, expected.GetSpacing()[::-1])
    np.testing.assert_allclose(found.geometry.origin_mm, expected.GetOrigin())
    direction = np.reshape(expected.GetDirection(), (found.dims, found.dims))[:, ::-1]
    np.testing.assert_allclose(found.geometry.direction, direction)


ENCODED = {
    "raw": lambda data: data,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "hex": lambda data: data.hex().encode(),
    "ascii": lambda data: " ".join(map(str, np.frombuffer(data, np.int16))).encode(),
}


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("lines", [0, 2])
def test_encodings_with_lines_to_skip(tmp_path, encoding, lines):
    data = b"words\n" * lines + ENCODED[encoding](VOXELS.tobytes())
    write(tmp_path / "a.nrrd", data, encoding=encoding, line_skip=str(lines))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nrrd").array[0], VOXELS)
    if encoding != "bz2":  # which SimpleITK is built without
        assert_as_simpleitk(tmp_path / "a.nrrd")


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("skip", ["7", "-1"])
def test_bytes_to_skip(tmp_path, encoding, skip):
    (tmp_path / "v.raw").write_bytes(ENCODED[encoding](b"HEADER!" + VOXELS.tobytes()))
    write(tmp_path / "a.nhdr", None, encoding=encoding, byte_skip=skip, data_file="v.raw")
    if encoding == "gzip" and skip == "-1":
        with pytest.raises(DataError, match="negative byte skip"):
            read_volume(tmp_path / "a.nhdr")
    else:
        assert_as_simpleitk(tmp_path / "a.nhdr")


@pytest.mark.parametrize("big", [False, True])
def test_both_byte_orders(tmp_path, big):
    write(tmp_path / "a.nrrd", VOXELS.astype(">i2" if big else "<i2").tobytes(), endian="big" if big else "little")
    assert_as_simpleitk(tmp_path / "a.nrrd")


@pytest.mark.parametrize("form", ["LIST", "%d", "%03d down"])
def test_voxels_in_several_files(tmp_path, form):
    names = [f"{k:03d}.raw" if "03" in form else f"{k}.raw" for k in (1, 2)]
    order = VOXELS[::-1] if "down" in form else VOXELS
    for name, plane in zip(names, order, strict=True):
        (tmp_path / name).write_bytes(b"HD" + plane.tobytes())
    data_file = {"LIST": "LIST", "%d": "%d.raw 1 2 1", "%03d down": "%03d.raw 2 1 -1"}[form]
    write(tmp_path / "a.nhdr", None, lines=names if form == "LIST" else (), byte_skip="2", data_file=data_file)
    assert_as_simpleitk(tmp_path / "a.nhdr")


@pytest.mark.parametrize(
    "fields",
    [
        {"spacings": "2 3 4"},
        {"spacings": "2 3 4", "axis_mins": "10 20 30"},
        {"spacings": "2 3 4", "axis_mins": "10 20 30", "centers": "node cell node"},
        {"kinds": "vector domain domain", "spacings": "nan 2 3"},
        {"kinds": "domain domain list", "spacings": "2 3 nan"},
        {"kinds": "RGB-color domain domain", "sizes": "3 4 2"},
        {"space": "RAS", "space_directions": "(0,2,0) (3,0,0) (0,0,-4)", "space_origin": "(1,2,3)"},
        {"space": "scanner-xyz", "space_directions": "(2,0,0) (0,3,0) (0,0,4)", "space_origin": "(1,2,3)"},
        {"space_dimension": "3", "space_directions": "(2,0,0) (0,3,0) (0,0,4)"},
        {"lines": ["a key:=a: value", "space directions:=(9,9,9)", "# sizes: 1 1 1"]},
    ],
    ids=str,
)
def test_axes(tmp_path, fields):
    write(tmp_path / "a.nrrd", **fields)
    assert_as_simpleitk(tmp_path / "a.nrrd")


def test_units_are_converted_to_mm(tmp_path):
    write(tmp_path / "a.nrrd", spacings="0.2 0.3 0.4", units='"cm" "cm" "cm"', axis_mins="1 2 3", centers="node " * 3)
    found = read_volume(tmp_path / "a.nrrd").geometry
    np.testing.assert_allclose(found.spacing_mm, (4, 3, 2))
    np.testing.assert_allclose(found.origin_mm, (10, 20, 30))
    axes = {"space_directions": "(200,0,0) (0,300,0) (0,0,400)", "space_origin": "(1000,0,0)"}
    write(tmp_path / "b.nrrd", space="LPS", space_units='"um" "um" "um"', **axes)
    found = read_volume(tmp_path / "b.nrrd").geometry
    np.testing.assert_allclose(found.spacing_mm, (0.4, 0.3, 0.2))
    np.testing.assert_allclose(found.origin_mm, (1, 0, 0))


def test_transparency_is_left_out(tmp_path):
    write(tmp_path / "a.nrrd", kinds="RGBA-color domain domain", spacings="nan 1 1")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nrrd").array, np.moveaxis(VOXELS, -1, 0)[:3])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kinds": "domain domain bananas"}, "'bananas' is unknown"),
        ({"kinds": "complex domain domain"}, "'complex' is unknown, or no axis of an image"),
        ({"spacing": "1 1 1"}, "the unknown field 'spacing: 1 1 1'"),
        ({"lines": ["sizes: 4 3 2"]}, "the repeated field"),
        ({"space": "3D-left-handed", "space_directions": "(1,0,0) (0,1,0) (0,0,1)"}, "the space '3d-left-handed'"),
        ({"space": "RAST", "space_directions": "(1,0,0) (0,1,0) (0,0,1)"}, "the space 'rast' is not one of"),
        ({"spacings": "1 1 1", "units": '"ell" "ell" "ell"'}, "the unit 'ell' is not one of mm"),
        ({"old_min": "0", "old_max": "1"}, "quantized from another range"),
        ({"axis_mins": "1 2 3"}, "axis mins without spacings"),
        ({"spacings": "1 1 1", "space": "LPS", "space_directions": "(1,0,0) (0,1,0) (0,0,1)"}, "as well as spacings"),
        ({"type": "block"}, "the type 'block'"),
        ({"endian": "middle"}, "endian 'middle'"),
        ({"encoding": "zrl"}, "has the NRRD encoding 'zrl'"),
        ({"space_directions": "(1,0,0) none (0,0,1)", "kinds": "domain domain domain"}, "has the direction None"),
    ],
    ids=str,
)
def test_what_is_not_read_is_refused(tmp_path, fields, message):
    write(tmp_path / "a.nrrd", **fields)
    with pytest.raises(DataError, match=rf"a\.nrrd: .*{message}"):
        read_volume(tmp_path / "a.nrrd")
