"""Read and decompress the bytes of image files within limits, so that no file fills the memory or blocks.

A header may claim any size, a compressed file may expand a thousandfold, and a name in a header may lead anywhere.
Every reader takes its bytes from here.
"""

from __future__ import annotations

import bz2
import gzip
import io
import math
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import Literal

from cphloc.data.io.itk import damaged
from cphloc.errors import DataError

MAX_VOXELS = 1 << 31
"""Largest number of voxels of an image, over all its channels."""

MAX_FILE_BYTES = 1 << 34
"""Largest size of an image file: `MAX_VOXELS` in double precision."""

MAX_CONSTANT_BYTES = 1 << 28
"""Decompressed size from which content that shrinks more than `MAX_RATIO` times is refused."""

MAX_RATIO = 900
"""Deflate shrinks at most 1,032 times; above this ratio the content is all of one value."""

MAX_FILES = 10_000
"""Largest number of files with the voxels of one image."""

EXTRA_BYTES = 1 << 20
"""Bytes that may follow the voxels of an image."""

Compression = Literal["gzip", "zlib", "bzip2"]

_PIECE = 1 << 22


def read_content(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        DataError: it is a device, a pipe or a folder, or cannot be read.
    """
    check_regular(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            msg = f"{path}: has {path.stat().st_size:,} bytes, {MAX_FILE_BYTES:,} are the most; crop or resample it"
            raise DataError(msg)
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise damaged(path, getattr(error, "strerror", None) or "it is larger than the memory") from error


def check_regular(path: Path) -> None:
    """Check that a path is a regular file, or a link to one, because a device or a pipe would block or never end.

    Raises:
        DataError: it is something else.
    """
    if path.exists() and not path.is_file():
        msg = f"{path}: is not a regular file but a device, pipe or folder; pass the path of an image file"
        raise DataError(msg)


def check_size(path: Path, sizes: Sequence[int], itemsize: int = 1) -> int:
    """Return the number of bytes of an image that a header describes.

    Args:
        path: file of the header, for the message.
        sizes: number of voxels along each axis, and of channels.
        itemsize: bytes of a value.

    Raises:
        DataError: there are no voxels or more than `MAX_VOXELS`.
    """
    voxels = math.prod(sizes)
    if min(sizes, default=0) < 1 or voxels > MAX_VOXELS:
        shown = " x ".join(map(str, sizes[:8]))[:80]
        msg = f"{path}: its header describes {shown} values; an image has 1 to {MAX_VOXELS:,}: copy or export it again"
        raise DataError(msg)
    return voxels * itemsize


def beside(path: Path, name: str) -> Path:
    """Return the path of a file that a header names, in the folder of the header or below.

    Links are followed, so that data folders may consist of links. The message does not depend on what exists elsewhere.

    Args:
        path: file of the header.
        name: relative path from the header's folder, as written in the header.

    Raises:
        DataError: the name leads out of the folder, or there is no such regular file.
    """
    relative = PureWindowsPath(name)  # splits at / and \ and recognizes drives, on every system
    if "\0" in name or relative.drive or relative.root or ".." in relative.parts or not relative.parts:
        raise damaged(path, f"its voxel file {name[:100]!r} is not in the same folder")
    found = path.parent / name
    if not os.path.isfile(found):  # a name that is too long for the system is no file
        raise damaged(path, f"its voxel file {name[:100]!r} is missing in the same folder")
    return found


def numbered(pattern: str, low: int, high: int, step: int) -> list[str]:
    """Return the names of a numbered sequence of files, as headers state it.

    Args:
        pattern: name with one ``%d``, ``%03d`` or the like.
        low: first number.
        high: last number.
        step: difference of two numbers.

    Raises:
        ValueError: the pattern has another conversion, which could ask for a text without end, or the step is 0.

    >>> numbered("slice%02d.raw", 1, 5, 2)
    ['slice01.raw', 'slice03.raw', 'slice05.raw']
    """
    if not re.fullmatch(r"[^%]*%0?\d?d[^%]*", pattern):
        msg = "not a name with one %d"
        raise ValueError(msg)
    numbers = range(low, high + (1 if step > 0 else -1), step)
    return [pattern % number for number in numbers[:MAX_FILES]]


def read_files(path: Path, files: Sequence[Path]) -> list[bytes]:
    """Read the voxel files of a header.

    Args:
        path: file of the header, for the message.
        files: the files.

    Raises:
        DataError: there are too many files, or one is named twice, which could multiply it without end.
    """
    if len(files) > MAX_FILES or len(set(files)) < len(files):
        msg = f"{path}: names {len(files):,} voxel files, {len(set(files)):,} of them different; correct its list"
        raise DataError(msg)
    return [read_content(file) for file in files]


def decompressed(
    path: Path, content: bytes | bytearray, compression: Compression, expected: int, whole: bool = True
) -> bytearray:
    """Decompress at most the bytes that a header describes.

    Args:
        path: the file, for messages.
        content: compressed bytes, of one or more members.
        compression: ``gzip``, ``zlib`` or ``bzip2``.
        expected: number of bytes needed.
        whole: whether the content ends there, up to `EXTRA_BYTES`; if False, only the first bytes are decompressed.

    Returns:
        the decompressed bytes: fewer than ``expected`` where the content ends before.

    Raises:
        DataError: the content is damaged, or expands beyond what the header describes.
    """
    if whole and expected > max(MAX_CONSTANT_BYTES, MAX_RATIO * len(content)):
        msg = f"{path}: {len(content):,} bytes would expand to {expected:,}; save it uncompressed or in a smaller type"
        raise DataError(msg)
    most = expected + EXTRA_BYTES if whole else expected
    out = bytearray()
    try:
        for piece in _pieces(content, compression):
            out += piece
            if len(out) > most:
                break
    except (zlib.error, OSError, EOFError, ValueError, MemoryError) as error:
        if whole or not out:
            raise damaged(path, f"its compressed data is truncated or damaged: {error}") from error
    if whole and len(out) > most:
        raise damaged(path, f"it expands to more than the {expected:,} bytes that its header describes")
    return out


def _pieces(content: bytes | bytearray, compression: Compression) -> Iterator[bytes]:
    if compression == "zlib":
        yield from zlib_pieces(content)
        return
    stream = io.BytesIO(content)
    with gzip.GzipFile(fileobj=stream) if compression == "gzip" else bz2.BZ2File(stream) as file:
        while piece := file.read(_PIECE):
            yield piece


def zlib_pieces(content: bytes | bytearray, wbits: int = zlib.MAX_WBITS) -> Iterator[bytes]:
    """Decompress zlib content piece by piece; a negative ``wbits`` stands for deflate without a zlib header.

    Raises:
        EOFError: the end is missing.
        zlib.error: the content is damaged.
    """
    decoder = zlib.decompressobj(wbits)
    for start in range(0, len(content), _PIECE):
        waiting = content[start : start + _PIECE]
        while not decoder.eof:
            yield (piece := decoder.decompress(waiting, _PIECE))
            waiting = decoder.unconsumed_tail
            if not waiting and len(piece) < _PIECE:
                break
    if not decoder.eof:
        msg = "the end is missing"
        raise EOFError(msg)
