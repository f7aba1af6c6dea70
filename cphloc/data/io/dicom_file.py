"""Read DICOM files within limits, so that no file fills the memory.

A deflated data set may expand a thousandfold, the tags may claim any number of pixels, and a compressed picture inside
may claim another size than the tags: all are checked before anything is expanded or decoded.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cphloc.data.io.content import MAX_CONSTANT_BYTES, MAX_RATIO, check_regular, check_size, zlib_pieces
from cphloc.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_INFLATED_BYTES = 1 << 27
"""Size from which a deflated data set that shrinks more than `MAX_INFLATED_RATIO` times is refused."""
MAX_INFLATED_RATIO = 100
MAX_ELEMENTS = 500_000
"""Largest number of elements of a data set, those of its sequences included; reading so many takes seconds."""
_DEFLATED = "1.2.840.10008.1.2.1.99"
_JPEG_SIZES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Second bytes of the JPEG and JPEG-LS markers that start a frame, and state its size."""
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})


def read_dicom_file(path: Path, force: bool = True, **options: Any) -> Dataset:
    """Read the data set of a DICOM file.

    Args:
        path: the file.
        force: whether to read a file without the DICOM prefix.
        options: further arguments of `pydicom.dcmread`.

    Raises:
        DataError: the file is a device or a pipe, expands beyond all proportion, or has elements without end.
    """
    from pydicom import dcmread

    check_regular(path)
    with path.open("rb") as plain:
        inflated = _inflated(path, plain)
    with _CountedFile(path.open("rb", buffering=0)) if inflated is None else _CountedBytes(inflated) as file:
        try:
            return dcmread(file, force=force, **options)
        except _TooManyError:
            msg = f"{path}: has more than {MAX_ELEMENTS:,} elements; split it, or export it again"
            raise DataError(msg) from None


class _TooManyError(Exception):
    """A data set has more than `MAX_ELEMENTS`."""


class _Counted:
    """Count the reads of a file: pydicom reads two parts of an element or more."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes."""
        self.reads += 1
        if self.reads > 2 * MAX_ELEMENTS:
            raise _TooManyError
        return super().read(size)  # pyright: ignore[reportAttributeAccessIssue]  # of the file that this is mixed into


class _CountedFile(_Counted, io.BufferedReader):
    """A file on the disk."""


class _CountedBytes(_Counted, io.BytesIO):
    """A file in memory."""


def check_pixels(path: Path, dataset: Dataset) -> None:
    """Check that the pixels that the tags describe are not beyond all proportion to the stored ones.

    Raises:
        DataError: they are.
    """
    frames, samples = (int(dataset.get(tag) or 1) for tag in ("NumberOfFrames", "SamplesPerPixel"))
    sizes = (frames, int(dataset.Rows), int(dataset.Columns), samples)
    expected = check_size(path, sizes, max(1, int(dataset.get("BitsAllocated") or 8) // 8))
    stored = len(dataset.get("PixelData") or b"")
    if dataset.file_meta.TransferSyntaxUID.is_compressed and expected > max(MAX_CONSTANT_BYTES, MAX_RATIO * stored):
        msg = f"{path}: {stored:,} bytes would expand to {expected:,}; export it uncompressed"
        raise DataError(msg)


def check_frame(path: Path, dataset: Dataset, index: int) -> None:
    """Check that the compressed picture of a frame has the size that the tags state, before it is decoded.

    Raises:
        DataError: it has another size.
    """
    from pydicom.encaps import get_frame

    syntax = dataset.file_meta.TransferSyntaxUID
    if not (syntax.is_compressed and "JPEG" in syntax.name):
        return
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    content = get_frame(
        dataset.PixelData,
        index,
        number_of_frames=int(dataset.get("NumberOfFrames") or 1),
        extended_offsets=(offsets[0], offsets[1]) if offsets[0] and offsets[1] else None,
    )
    found = _jpeg_2000_size(content) if "2000" in syntax.name else _jpeg_size(content)
    if found is not None and found != (dataset.Rows, dataset.Columns):
        size = f"{found[0]} x {found[1]}"
        msg = f"{path}: its pixels decode to {size} instead of {dataset.Rows} x {dataset.Columns}; export it again"
        raise DataError(msg)


def _inflated(path: Path, file: BinaryIO) -> bytes | None:
    """Inflate a deflated file to an equal one in Explicit VR Little Endian; ``None`` for files that are not deflated.

    Raises:
        DataError: it expands beyond all proportion.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filereader import read_dataset
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import ExplicitVRLittleEndian

    if file.read(132)[128:] != b"DICM":
        return None
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        return None
    content, pieces = file.read(), []
    size, most = 0, max(MAX_INFLATED_BYTES, MAX_INFLATED_RATIO * len(content))
    try:
        for piece in zlib_pieces(content, -zlib.MAX_WBITS):
            size += len(piece)
            if size > most:
                msg = f"{path}: {len(content):,} bytes would expand to more than {most:,}; save it inflated"
                raise DataError(msg)
            pieces.append(piece)
    except EOFError:  # pydicom reports a data set that is cut off
        return None
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = DicomBytesIO()
    write_file_meta_info(header, FileMetaDataset(meta), enforce_standard=False)
    return b"".join([bytes(128), b"DICM", header.getvalue(), *pieces])


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG or JPEG-LS picture states; ``None`` where it states none."""
    at = 2
    while content[:2] == b"\xff\xd8" and at + 9 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in _JPEG_SIZES:
            return struct.unpack(">HH", content[at + 5 : at + 9])
        if marker == 0xFF or marker in _JPEG_WITHOUT_LENGTH:
            at += 1 if marker == 0xFF else 2
        else:
            at += 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
    return None


def _jpeg_2000_size(content: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG 2000 picture states, in a JP2 file or alone; ``None`` where it is neither."""
    at = 0
    while content[4:8] == b"jP  " and at + 8 <= len(content):  # the boxes of a JP2 file, of which one is the picture
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        if kind == b"jp2c":
            at += 16 if length == 1 else 8
            break
        at += max(length, 8)
    if content[at : at + 4] != b"\xff\x4f\xff\x51" or len(content) < at + 24:
        return None
    right, bottom, left, top = struct.unpack(">4I", content[at + 8 : at + 24])
    return bottom - top, right - left
