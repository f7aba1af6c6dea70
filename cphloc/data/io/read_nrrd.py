"""Read NRRD files with attached or detached header (teem.sourceforge.net/nrrd/format.html).

SimpleITK is not used because its NRRD parser crashes the Python process on some damaged headers.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from cphloc.data.io.content import Compression, beside, check_size, decompressed, numbered, read_content, read_files
from cphloc.data.io.itk import damaged
from cphloc.data.io.nrrd_header import Header, parse
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Scan, Volume

_COMPRESSIONS: dict[str, Compression] = {"gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
"""Encoding of the voxel data, as headers name it -> its compression."""
_TEXT = ("txt", "text", "ascii")
_ALPHA = ("rgba-color", "4-color")


def read_nrrd(path: Path) -> Volume:
    """Read an NRRD file with its geometry in LPS mm; axes that are not spatial become channels, without alpha.

    Raises:
        DataError: the file is damaged, not NRRD, or has an encoding other than raw, gzip, bzip2, text and hex.
    """
    header, attached = _open(path)
    geometry, spatial = _geometry(path, header)
    array = _data(path, header, attached).reshape(header.sizes[::-1])
    channel_axes = [array.ndim - 1 - a for a in range(array.ndim) if a not in spatial]
    array = np.moveaxis(array, channel_axes, range(len(channel_axes))).reshape(-1, *geometry.shape)
    if len(array) == 4 and any(kind in _ALPHA for kind in header.kinds):
        array = array[:3]
    native = array.dtype.newbyteorder("=")
    array = array.astype(np.float32 if native == np.float64 else native)
    return Volume(array, geometry, None, str(path), scan=Scan(unit=header.unit))


def voxel_files(path: Path) -> list[Path]:
    """List the files with the voxels of a detached header; none where they follow the header.

    Raises:
        DataError: the header is damaged, or a file is missing or in another folder.
    """
    return _voxel_files(path, _open(path)[0])


def _open(path: Path) -> tuple[Header, bytes]:
    """Header of a file, and what follows it."""
    content = read_content(path)
    if not re.match(rb"NRRD000[1-5]\r?\n", content):
        raise damaged(path, f"it is not NRRD, its first bytes are {content[:12]!r}")
    end = re.search(rb"\r?\n\r?\n", content)
    try:
        header = parse(content[: end.start() if end else len(content)].decode("latin-1"))
    except (ValueError, IndexError, OverflowError) as error:
        raise damaged(path, f"its header is invalid: {' '.join(str(error).split())}") from error
    return header, content[end.end() :] if end else b""


def _voxel_files(path: Path, header: Header) -> list[Path]:
    if header.data_file is None:
        return []
    first, *rest = header.data_file.split() or [""]
    if first == "LIST" and header.listed:
        names = list(header.listed)
    elif "%" in first and len(rest) >= 3:
        try:
            low, high, step = map(int, rest[:3])
            names = numbered(first, low, high, step)
        except (ValueError, TypeError) as error:
            raise damaged(path, f"its data file '{header.data_file[:60]}' is no pattern of file names") from error
    else:
        names = [header.data_file]
    return [beside(path, name) for name in names]


def _geometry(path: Path, header: Header) -> tuple[Geometry, list[int]]:
    """Geometry of the image, and the indices of the spatial axes in file order."""
    spatial = [a for a, d in enumerate(header.directions) if d is not None]
    if len(header.directions) != len(header.sizes) or len(spatial) not in (2, 3):
        count = len(header.directions)
        msg = f"its header has {count} axes, {len(spatial)} of them spatial, for sizes {header.sizes}"
        raise damaged(path, msg)
    vectors = np.array([header.directions[a] for a in reversed(spatial)])
    spacing = np.linalg.norm(vectors, axis=1)
    shape = tuple(header.sizes[a] for a in reversed(spatial))
    if not (spacing > 0).all() or not np.isfinite(spacing).all():
        raise damaged(path, f"its header has the spacing {spacing.tolist()}")
    return Geometry(shape, tuple(spacing.tolist()), header.origin, (vectors / spacing[:, None]).T), spatial


def _data(path: Path, header: Header, attached: bytes) -> np.ndarray:
    """Decode the samples, in file order; several data files follow each other along the slowest axis."""
    needed = check_size(path, header.sizes, header.dtype.itemsize)
    files = _voxel_files(path, header)
    if needed % max(len(files), 1):
        raise damaged(path, f"its {len(files)} voxel files cannot hold {needed} bytes")
    stored = read_files(path, files) if header.data_file is not None else [attached]
    data = b"".join(_decoded(path, header, content, needed // len(stored)) for content in stored)
    return np.frombuffer(data, header.dtype, math.prod(header.sizes))


def _decoded(path: Path, header: Header, content: bytes | bytearray, needed: int) -> bytes | bytearray:
    """Decode the first ``needed`` bytes after the lines and bytes to skip."""
    for _ in range(header.line_skip):
        content = content.partition(b"\n")[2]
    skip = header.byte_skip
    if header.encoding == "raw":
        start = len(content) - needed if skip == -1 else skip
    elif skip < 0:
        raise damaged(path, "its header has a negative byte skip, which only raw data can have")
    elif header.encoding in _COMPRESSIONS:
        content, start = decompressed(path, content, _COMPRESSIONS[header.encoding], skip + needed), skip
    elif header.encoding in _TEXT or header.encoding == "hex":
        content, start = _from_text(path, header, content[skip:]), 0
    else:
        msg = f"{path}: has the NRRD encoding '{header.encoding[:40]}'; save it as raw or gzip"
        raise DataError(msg)
    if start < 0 or len(content) - start < needed:
        raise damaged(path, f"it is truncated, {needed - max(len(content) - start, 0)} bytes are missing")
    return content[start : start + needed]


def _from_text(path: Path, header: Header, content: bytes | bytearray) -> bytes:
    try:
        if header.encoding == "hex":
            return bytes.fromhex(content.decode("ascii"))
        return np.array(content.replace(b",", b" ").split(), header.dtype).tobytes()
    except ValueError as error:
        raise damaged(path, f"its {header.encoding} data is damaged: {error}") from error
