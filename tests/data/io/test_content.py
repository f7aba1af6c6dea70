"""What an image file may do to its reader: be read, or refused in one line, within 2 s and 500 MB."""

import bz2
import gzip
import os
import resource
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from cphloc.data.io import content
from cphloc.data.io.formats import image_format
from cphloc.data.io.read import read_volume
from cphloc.data.io.read_picture import MAX_COLOUR_PIXELS, MAX_PIXELS
from cphloc.data.io.source_files import content_digest
from cphloc.errors import DataError

NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: {sizes}\nencoding: {encoding}\n{more}\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = {sizes}\nElementType = MET_UCHAR\n{more}ElementDataFile = {file}\n"
ZEROS = 400_000_000


def nifti(shape: tuple[int, int, int]) -> bytes:
    """Header of a NIfTI file of bytes."""
    header = bytearray(352)
    header[:4], header[344:348] = struct.pack("<i", 348), b"n+1\0"
    header[40:56] = struct.pack("<8h", 3, *shape, 1, 1, 1, 1)
    header[70:74] = struct.pack("<hh", 2, 8)
    header[76:108] = struct.pack("<8f", *[1.0] * 8)
    header[108:112] = struct.pack("<f", 352.0)
    return bytes(header)


def tiff(width: int, height: int, pixels: bytes) -> bytes:
    """A grey TIFF with one strip of pixels, whose header claims a size."""
    fields = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    fields += [(278, 4, len(pixels) // width), (279, 4, len(pixels))]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(fields)) + table + bytes(4)


def png(width: int, height: int, pixels: bytes, colours: int = 0) -> bytes:
    """A PNG, grey or of three colours (2), whose header claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def npy(header: str) -> bytes:
    """A NumPy file with a header and no data."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def bombs() -> dict[str, bytes]:
    """Small files that expand, or claim to hold, far more than their reader may use."""
    piece = bytes(ZEROS // 100)  # formats with several members need only one of them compressed
    gzipped, bzipped, zeros = gzip.compress(piece) * 100, bz2.compress(piece) * 100, zlib.compress(bytes(ZEROS), 1)
    many = "60000 60000 60000"
    return {
        "small.nii.gz": gzip.compress(nifti((9, 9, 9))) + gzipped,
        "huge.nii.gz": gzip.compress(nifti((900, 900, 900))) + gzipped,
        "claim.nii.gz": gzip.compress(nifti((32000, 32000, 32000))),
        "claim.nii": nifti((32000, 32000, 32000)),
        "gzip.nrrd": NRRD.format(sizes="9 9 9", encoding="gzip", more="").encode() + gzipped,
        "bzip2.nrrd": NRRD.format(sizes="9 9 9", encoding="bz2", more="").encode() + bzipped,
        "whole.nrrd": NRRD.format(sizes="900 900 900", encoding="bz2", more="").encode() + bzipped,
        "claim.nrrd": NRRD.format(sizes=many, encoding="raw", more="").encode(),
        "bomb.mha": META.format(sizes="9 9 9", more="CompressedData = True\n", file="LOCAL").encode() + zeros,
        "claim.mha": META.format(sizes=many, more="", file="LOCAL").encode(),
        "claim.png": png(60000, 60000, zlib.compress(bytes(1000))),
        "bomb.png": png(20000, 20000, zeros),
        "colours.png": png(7000, 7000, zlib.compress(bytes(7000 * 21001), 9), 2),
        "strips.tif": tiff(8, 7_000_000, bytes(120)),
        "claim.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (60000, 60000, 60000), }"),
        "deep.npy": npy("{'descr': " + "(" * 40 + "'<f8'" + ")" * 40 + "}"),
    }


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `bombs`."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, data in bombs().items():
        (folder / name).write_bytes(data)
    return folder


def test_no_file_expands_beyond_its_limits(hostile: Path):
    """Each is refused in one line; the largest memory of all of them is that of a child process."""
    code = (
        "import resource, sys, time; from pathlib import Path\n"
        "from cphloc.data.io.read import read_volume; from cphloc.errors import DataError\n"
        "import SimpleITK, PIL.Image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    start = time.process_time()\n"
        "    try: read_volume(path); said = 'was read'\n"
        "    except DataError as error: said = str(error)\n"
        "    assert path.name in said and '\\n' not in said and time.process_time() - start < 2, said\n"
        "used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024\n"
        "assert used < 500, used\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(hostile)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_limits_hold_in_this_process_too(hostile: Path):
    for path in sorted(hostile.iterdir()):
        with pytest.raises(DataError, match=path.name):
            read_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".png", ".dcm", ".npy", ""])
def test_pipes_and_devices_are_refused_at_once(tmp_path, suffix: str):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        started = time.monotonic()
        with pytest.raises(DataError, match="not a regular file"):
            read_volume(tmp_path / f"{name}{suffix}")
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("suffix", ["", ".pth", ".nii", ".dcm"])
def test_pipes_and_devices_are_neither_hashed_nor_searched_for_a_format(tmp_path, suffix: str):
    """As for the inputs of a batch, before any of them is read."""
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        image_format(tmp_path / f"{name}{suffix}")
        with pytest.raises(DataError, match="not a regular file"):
            content_digest(tmp_path / f"{name}{suffix}")


def test_a_loop_of_links_is_an_error(tmp_path):
    (tmp_path / "a.nii").symlink_to("b.nii")
    (tmp_path / "b.nii").symlink_to("a.nii")
    with pytest.raises(DataError, match="does not exist"):
        read_volume(tmp_path / "a.nii")
    for name in ("a\0b.nii", "x" * 5000 + ".nii"):
        with pytest.raises(DataError, match="does not exist"):
            read_volume(name)


OUTSIDE = (
    "x" * 5000,
    "{secret}",
    "../private/secret.bin",
    "sub/../../private/secret.bin",
    "..\\private\\secret.bin",
    "C:\\x",
    "",
)


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("header", ["a.nhdr", "a.mhd"])
def test_a_header_leads_nowhere_outside_its_folder(tmp_path, header: str, name: str):
    secret = tmp_path / "private" / "secret.bin"
    for folder in (secret.parent, tmp_path / "in" / "sub"):
        folder.mkdir(parents=True)
    secret.write_bytes(bytes(range(120)))
    file = name.format(secret=secret)
    nrrd = NRRD.format(sizes="6 5 4", encoding="raw", more=f"data file: {file}\n")
    (tmp_path / "in" / header).write_text(
        nrrd if header == "a.nhdr" else META.format(sizes="6 5 4", more="", file=file)
    )
    with pytest.raises(DataError) as there:
        read_volume(tmp_path / "in" / header)
    secret.unlink()
    with pytest.raises(DataError) as gone:
        read_volume(tmp_path / "in" / header)
    assert str(there.value) == str(gone.value)  # nothing is said about files elsewhere


@pytest.mark.parametrize("file", ["voxels.raw", "sub/voxels.raw", "linked.raw"])
@pytest.mark.parametrize("header", ["a.nhdr", "a.mhd"])
def test_files_below_the_header_and_links_are_read(tmp_path, header: str, file: str):
    (tmp_path / "sub").mkdir()
    for place in (tmp_path / "voxels.raw", tmp_path / "sub" / "voxels.raw"):
        place.write_bytes(bytes(range(120)))
    (tmp_path / "linked.raw").symlink_to(tmp_path / "sub" / "voxels.raw")
    nrrd = NRRD.format(sizes="6 5 4", encoding="raw", more=f"data file: {file}\n")
    (tmp_path / header).write_text(nrrd if header == "a.nhdr" else META.format(sizes="6 5 4", more="", file=file))
    assert read_volume(tmp_path / header).array.ravel().tolist() == list(range(120))


@pytest.mark.parametrize(
    "line",
    ["Comment = a\x0bElementDataFile = LOCAL", "Comment = a\rElementDataFile = LOCAL", "ElementDataFile : x = LOCAL"],
)
def test_two_readers_of_a_metaimage_header_cannot_disagree(tmp_path, line: str):
    """Otherwise the file that was checked is not the file that ITK reads."""
    (tmp_path / "secret.bin").write_bytes(bytes(120))
    text = META.format(sizes="6 5 4", more=f"{line}\n", file=tmp_path / "secret.bin")
    (tmp_path / "a.mhd").write_bytes(text.encode() + bytes(120))
    with pytest.raises(DataError, match="not MetaImage"):
        read_volume(tmp_path / "a.mhd")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize(
    "first", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", b"\xd7\xcd\xc6\x9a", b"GIF89a", b"/* XPM */"]
)
def test_a_picture_opens_only_with_a_declared_decoder(tmp_path, monkeypatch, suffix: str, first: bytes):
    gs = tmp_path / "bin" / "gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gs.parent}:{os.environ['PATH']}")
    (tmp_path / f"a{suffix}").write_bytes(first + bytes(200))
    with pytest.raises(DataError, match="cannot be read as a picture"):
        read_volume(tmp_path / f"a{suffix}")
    assert not (tmp_path / "started").exists()


def test_a_picture_of_the_largest_size_is_read(tmp_path):
    side = int(MAX_PIXELS**0.5)
    (tmp_path / "a.png").write_bytes(png(side, side, zlib.compress(bytes((side + 1) * side), 1)))
    assert read_volume(tmp_path / "a.png").array.shape == (1, side, side)


def test_a_colour_picture_that_would_take_more_than_500_mb_is_refused(tmp_path):
    side = int(MAX_COLOUR_PIXELS**0.5) + 1
    (tmp_path / "a.png").write_bytes(png(side, side, np.random.default_rng(0).bytes(400_000), 2))
    with pytest.raises(DataError, match=r"60,000,000 are the most; crop it"):
        read_volume(tmp_path / "a.png")


def test_members_and_padding_are_read_as_gzip_does(tmp_path):
    rng = np.random.default_rng(0)
    data = nifti((40, 50, 60)) + rng.integers(0, 200, 40 * 50 * 60, np.uint8).tobytes()
    packed = gzip.compress(data[:70_000]) + gzip.compress(data[70_000:]) + bytes(512)
    (tmp_path / "a.nii.gz").write_bytes(packed)
    assert read_volume(tmp_path / "a.nii.gz").array.tobytes() == data[352:]


def test_large_content_is_decompressed_completely(tmp_path):
    data = np.random.default_rng(0).integers(0, 9, 20_000_000, np.uint8).tobytes()
    for compression, packed in {"gzip": gzip.compress(data, 1), "zlib": zlib.compress(data, 1)}.items():
        assert content.decompressed(tmp_path, packed, compression, len(data)) == data
        with pytest.raises(DataError, match="truncated or damaged"):
            content.decompressed(tmp_path, packed[:-9], compression, len(data))


def test_this_platform_measures_memory():
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


@pytest.mark.parametrize("pattern", ["a%999999999d 1 2 1", "a%d%d 1 2 1", "a%s 1 2 1", "a%(x)d 1 2 1", "a%d 1 2 0"])
def test_a_pattern_of_file_names_is_no_format_string(tmp_path, pattern: str):
    (tmp_path / "a.mhd").write_text(META.format(sizes="6 5 4", more="", file=pattern))
    (tmp_path / "a.nhdr").write_text(NRRD.format(sizes="6 5 4", encoding="raw", more=f"data file: {pattern}\n"))
    for name in ("a.mhd", "a.nhdr"):
        with pytest.raises(DataError, match=name):
            read_volume(tmp_path / name)


def test_a_file_that_is_listed_a_thousand_times_is_read_once_at_most(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(10**6))
    (tmp_path / "a.mhd").write_text(META.format(sizes="6 5 4", more="", file="LIST\n" + "a.raw\n" * 1000))
    (tmp_path / "a.nhdr").write_text(
        NRRD.format(sizes="6 5 4", encoding="raw", more="data file: LIST\n" + "a.raw\n" * 1000)
    )
    for name in ("a.mhd", "a.nhdr"):
        with pytest.raises(DataError, match=name):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("more", ["NDims = 999999999", "NDims = -1", "NDims = 2", "Offset = " + "1 " * 5000])
def test_a_header_of_another_number_of_axes_never_reaches_itk(tmp_path, more: str):
    text = META.format(sizes="6 5 4", more="", file="LOCAL").replace(
        "NDims = 3", more if "NDims" in more else f"NDims = 3\n{more}"
    )
    (tmp_path / "a.mha").write_bytes(text.encode() + bytes(120))
    with pytest.raises(DataError, match=r"axes and 3 sizes"):
        read_volume(tmp_path / "a.mha")


def test_a_tiff_whose_strips_cover_a_part_of_its_rows_is_refused(tmp_path):
    """Pillow leaves the rows without a strip black."""
    (tmp_path / "whole.tif").write_bytes(tiff(8, 6, bytes(range(48))))
    assert (read_volume(tmp_path / "whole.tif").array.ravel() == range(48)).all()
    (tmp_path / "part.tif").write_bytes(tiff(8, 9, bytes(range(48))))
    with pytest.raises(DataError, match="cover only a part of the 8 x 9 pixels"):
        read_volume(tmp_path / "part.tif")
