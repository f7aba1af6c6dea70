"""What a DICOM file may do to its reader: be read, or refused in one line, within 2 s and 500 MB."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from cphloc.data.io import dicom_file
from cphloc.data.io.contour_fill import fill
from cphloc.data.io.dicom_file import read_dicom_file
from cphloc.data.io.read import read_volume
from cphloc.data.io.read_dicom_seg import read_seg
from cphloc.data.io.rtstruct import read_contours
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry

PLAIN, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
JPEG, JPEG_2000, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"


def dicom(syntax: str = PLAIN, pixels: bytes | None = bytes(40), **tags: object) -> bytes:
    """A CT slice of 4 x 5 pixels."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Modality, data.SeriesInstanceUID, data.PixelRepresentation = "CT", "1.2", 0
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 4, 5, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelSpacing, data.ImagePositionPatient = [1, 1], [0, 0, 0]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for tag, value in tags.items():
        setattr(data, tag, value)
    if pixels is not None:
        data.PixelData = pixels
        data["PixelData"].is_undefined_length = syntax in (JPEG, JPEG_2000, RLE)
    stream = io.BytesIO()
    dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def deflated(megabytes: int, element: bytes = b"OW", group: int = 0x7FE0) -> bytes:
    """A deflated file that ends with an element of zeros."""
    plain, start = dicom(pixels=None), dicom(DEFLATED, pixels=None)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(plain[plain.index(b"\x08\x00\x16\x00UI") :])
    packed += packer.compress(struct.pack("<HH2sHI", group, 0x10, element, 0, megabytes << 20))
    for _ in range(megabytes):
        packed += packer.compress(bytes(1 << 20))
    length = struct.unpack("<I", start[140:144])[0]
    return start[: 144 + length] + packed + packer.flush()


def jpeg_2000(height: int, width: int) -> bytes:
    """The head of a JPEG 2000 picture that claims a size."""
    sizes = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, width, height, 0, 0, 1) + bytes([15, 1, 1])
    coding = b"\xff\x52\x00\x0c\x00\x00\x00\x01\x00\x05\x04\x04\x00\x01\xff\x5c\x00\x13\x40" + b"\x40" * 16
    tile = b"\xff\x90\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x01\xff\x93" + bytes(100) + b"\xff\xd9"
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(sizes) + 2) + sizes + coding + tile


def in_jp2(content: bytes) -> bytes:
    return bytes.fromhex("0000000c6a5020200d0a870a") + struct.pack(">I4s", 8 + len(content), b"jp2c") + content


def jpeg(height: int, width: int) -> bytes:
    return (
        b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08"
        + struct.pack(">HH", height, width)
        + b"\x01\x01\x11\x00\xff\xd9"
    )


def hostile() -> dict[str, tuple[bytes, str]]:
    """Small files that expand, or claim to hold, far more than their reader may use; and what is said of each."""
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    return {
        "deflated": (deflated(1000), "would expand"),
        "private": (deflated(1000, b"OB", 0x7FD1), "would expand"),
        "rows": (dicom(Rows=65535, Columns=65535), "header describes"),
        "fewer": (dicom(Rows=30000, Columns=30000), "less than expected"),
        "frames": (dicom(NumberOfFrames=2**31 - 1), "frames without positions"),
        "rle": (dicom(RLE, encapsulate([bytes(64)]), Rows=30000, Columns=30000), "would expand"),
        "rle-rows": (dicom(RLE, encapsulate([bytes(64)]), Rows=65535, Columns=65535), "header describes"),
        "jpeg": (dicom(JPEG, encapsulate([jpeg(60000, 60000)]), **eight), "decode to 60000 x 60000 instead of 4 x 5"),
        "j2k": (dicom(JPEG_2000, encapsulate([jpeg_2000(60000, 50000)])), "decode to 60000 x 50000 instead of 4 x 5"),
        "jp2": (dicom(JPEG_2000, encapsulate([in_jp2(jpeg_2000(60000, 50000))])), "decode to 60000 x 50000 instead"),
        "nested": (dicom(pixels=None) + struct.pack("<HH2sHIHHI", 0x40, 0xA730, b"SQ", 0, 2**32 - 1, 0xFFFE, 0xE000,
                                                    2**32 - 1) * 100_000, "cannot be read as DICOM"),
    }  # fmt: skip


def test_no_dicom_file_expands_beyond_its_limits(tmp_path: Path):
    said = {}
    for name, (content, words) in hostile().items():
        (tmp_path / f"{name}.dcm").write_bytes(content)
        said[f"{name}.dcm"] = words
    code = (
        "import json, sys, time; from pathlib import Path\n"
        "from cphloc.data.io.read import read_volume; from cphloc.errors import DataError\n"
        "import pydicom.pixels.utils, pydicom.pixels.processing, PIL.Image\n"
        "most = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024\n"
        "before, words = most(), json.loads(sys.argv[2])\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    start = time.process_time()\n"
        "    try: read_volume(path); said = 'was read'\n"
        "    except DataError as error: said = str(error)\n"
        "    assert path.name in said and '\\n' not in said and words[path.name] in said, said\n"
        "    assert time.process_time() - start < 2 and most() - before < 500, (path.name, most() - before)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), json.dumps(said)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("syntax", [PLAIN, DEFLATED])
def test_a_file_within_the_limits_is_read_as_pydicom_reads_it(tmp_path: Path, syntax: str):
    pixels = np.arange(20, dtype="<u2").tobytes()
    (tmp_path / "a.dcm").write_bytes(dicom(syntax, pixels))
    found = read_volume(tmp_path / "a.dcm").array.squeeze()
    assert (found == dcmread(tmp_path / "a.dcm").pixel_array).all()
    assert found.max() == 19


def test_a_blank_deflated_image_shrinks_a_thousandfold_and_is_read(tmp_path: Path):
    """4,096 x 4,096 zeros: the ratio of a bomb, but not its size."""
    (tmp_path / "a.dcm").write_bytes(dicom(DEFLATED, bytes(2 * 4096 * 4096), Rows=4096, Columns=4096))
    assert (tmp_path / "a.dcm").stat().st_size < 50_000
    assert not read_volume(tmp_path / "a.dcm").array.any()


def test_a_jpeg_2000_picture_of_the_stated_size_is_decoded(tmp_path: Path):
    from PIL import Image

    picture = np.arange(64 * 48, dtype=np.uint8).reshape(64, 48)
    for name, options in (("j2k", {"no_jp2": True}), ("jp2", {})):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG2000", irreversible=False, **options)
        eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Rows": 64, "Columns": 48}
        (tmp_path / name).write_bytes(dicom(JPEG_2000, encapsulate([stream.getvalue()]), **eight))
        assert (read_volume(tmp_path / name).array.squeeze() == picture).all()


def test_a_segmentation_takes_no_memory_before_a_segment_is_drawn(tmp_path: Path):
    """5,000 segments on a grid of 10 million voxels would take 50 GB."""
    segments, frames = [], []
    for number in range(1, 5001):
        segment, frame, which = Dataset(), Dataset(), Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, f"s{number}"
        which.ReferencedSegmentNumber = number
        frame.SegmentIdentificationSequence = [which]
        segments.append(segment)
        frames.append(frame)
    tags = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "Modality": "SEG", "SegmentationType": "BINARY"}
    tags |= {"NumberOfFrames": 5000, "SegmentSequence": segments, "PerFrameFunctionalGroupsSequence": frames}
    (tmp_path / "a.dcm").write_bytes(dicom(PLAIN, b"\x0f" * 12500, **tags))
    regions = read_seg(tmp_path / "a.dcm", Geometry.regular((100, 320, 320)))
    assert len(regions) == 5000
    assert all(region.drawn for region in regions.values())


def rtstruct(points: str) -> bytes:
    data, roi, drawn, contour = Dataset(), Dataset(), Dataset(), Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Modality, roi.ROINumber, roi.ROIName = "RTSTRUCT", 1, "GTV"
    contour.add_new("ContourData", "OB", points.encode())  # OB: written as it is
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, [contour]
    data.StructureSetROISequence, data.ROIContourSequence = [roi], [drawn]
    stream = io.BytesIO()
    dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def test_the_points_of_a_contour_are_read_at_once_and_exactly(tmp_path: Path):
    """300,000 points of three numbers; pydicom takes more than 2 s to make an object of each number."""
    numbers = np.round(np.random.default_rng(0).uniform(-200, 200, 900_000), 3)
    (tmp_path / "a.dcm").write_bytes(rtstruct("\\".join(map(str, numbers))))
    started = time.process_time()
    (found,) = read_contours(tmp_path / "a.dcm")["GTV"]
    assert time.process_time() - started < 2
    assert (found.ravel() == numbers).all()


@pytest.mark.parametrize("points", ["1\\2\\x", "1\\2\\nan", "1\\2", "1\\\\2"])
def test_a_contour_of_other_than_points_is_an_error(tmp_path: Path, points: str):
    (tmp_path / "a.dcm").write_bytes(rtstruct(points))
    with pytest.raises(DataError, match=r"a\.dcm"):
        read_contours(tmp_path / "a.dcm")


def test_a_polygon_of_millions_of_edges_fills_no_memory():
    """A comb whose every edge crosses every row: 12 million crossings take 500 MB if computed at once."""
    teeth = 20_000
    comb = np.stack([np.tile([0.0, 300.0], teeth), np.linspace(10, 20, 2 * teeth)], axis=1)
    tracemalloc.start()
    mask = fill(comb, 300, 40)
    assert tracemalloc.get_traced_memory()[1] < 150e6
    tracemalloc.stop()
    assert not mask[:, :9].any()
    assert not mask[:, 21:].any()


@pytest.mark.parametrize("syntax", [PLAIN, DEFLATED])
@pytest.mark.parametrize("nested", [False, True])
def test_a_file_of_elements_without_end_is_refused(tmp_path: Path, monkeypatch, syntax: str, nested: bool):
    monkeypatch.setattr(dicom_file, "MAX_ELEMENTS", 5_000)
    content = struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0) * 20_000
    if nested:  # a sequence of undefined length with one item of undefined length
        start = struct.pack("<HH2sHIHHI", 0x0009, 0x1000, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
        content = start + content + struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    whole = dicom(syntax)
    head = whole[: 144 + struct.unpack("<I", whole[140:144])[0]]
    packed = zlib.compress(content, 9, -zlib.MAX_WBITS) if syntax == DEFLATED else content
    (tmp_path / "a.dcm").write_bytes(whole)
    (tmp_path / "b.dcm").write_bytes(head + packed)
    assert read_dicom_file(tmp_path / "a.dcm").Rows == 4
    with pytest.raises(DataError, match=r"b\.dcm: has more than 5,000 elements; split it"):
        read_dicom_file(tmp_path / "b.dcm")
