"""Read NRRD files with attached or detached header (teem.sourceforge.net/nrrd/format.html).

SimpleITK is not used because its NRRD parser crashes the Python process on some damaged headers.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cphloc.data.io.content import Compression, beside, check_size, decompressed, read_content
from cphloc.data.io.itk import damaged
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPE = {name: code for code, names in _TYPES.items() for name in names}
_ENCODINGS: dict[str, Compression | None] = {
    "raw": None,
    "gzip": "gzip",
    "gz": "gzip",
    "bzip2": "bzip2",
    "bz2": "bzip2",
}
"""Encoding of the voxel data, as headers name it -> its compression."""
_TO_LPS = {
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
}


@dataclass(frozen=True)
class _Header:
    """Contents of an NRRD header; axes in file order, the fastest-varying first."""

    sizes: tuple[int, ...]
    dtype: np.dtype
    encoding: str
    directions: tuple[tuple[float, ...] | None, ...]
    origin: tuple[float, ...]
    data_file: str | None


def read_nrrd(path: Path) -> Volume:
    """Read an NRRD file with its geometry in LPS mm; non-spatial axes become channels.

    Raises:
        DataError: the file is damaged, not NRRD, or has an encoding other than raw, gzip and bzip2.
    """
    content = read_content(path)
    if not content.startswith(b"NRRD"):
        raise damaged(path, f"it is not NRRD, its first bytes are {content[:12]!r}")
    end = re.search(rb"\r?\n\r?\n", content)
    text = content[: end.start() if end else len(content)].decode("latin-1")
    try:
        header = _parse(text)
        geometry, spatial = _geometry(header)
    except KeyError as error:
        raise damaged(path, f"its header has no field {error}, or the unknown value {error}") from error
    except (ValueError, IndexError, OverflowError) as error:
        raise damaged(path, f"its header is invalid: {' '.join(str(error).split())}") from error
    stored = _data(path, header, content[end.end() :] if end else b"")
    array = stored.reshape(header.sizes[::-1])
    component_axes = [array.ndim - 1 - a for a in range(array.ndim) if a not in spatial]
    array = np.moveaxis(array, component_axes, range(len(component_axes))).reshape(-1, *geometry.shape)
    native = array.dtype.newbyteorder("=")
    return Volume(array.astype(np.float32 if native == np.float64 else native), geometry, None, str(path))


def _parse(text: str) -> _Header:
    lines = (line.partition(": ") for line in text.splitlines()[1:] if not line.startswith("#"))
    fields = {key.strip().lower(): value.strip() for key, separator, value in lines if separator}
    sizes = tuple(int(n) for n in fields["sizes"].split())
    if len(sizes) != int(fields["dimension"]) or not 2 <= len(sizes) <= 5 or min(sizes) < 1:
        msg = f"dimension {fields['dimension']} and sizes {sizes}"
        raise ValueError(msg)
    space = fields.get("space", "").lower()
    to_lps = np.array(_TO_LPS.get(space, (1.0, 1.0, 1.0)))
    if "space directions" in fields or "space" in fields:
        directions = [_vector(v, to_lps) for v in re.findall(r"none|\([^)]*\)", fields["space directions"])]
    else:
        spacings = [float(s) for s in fields.get("spacings", " ".join(["1"] * len(sizes))).split()]
        dims = sum(map(math.isfinite, spacings))
        axes = iter(np.eye(dims))
        directions = [tuple(next(axes) * s) if math.isfinite(s) else None for s in spacings]
    dims = sum(d is not None for d in directions)
    order = "<" if fields.get("endian", "little").lower() == "little" else ">"
    return _Header(
        sizes=sizes,
        dtype=np.dtype(order + _DTYPE[fields["type"].lower()]),
        encoding=fields["encoding"].lower(),
        directions=tuple(directions),
        origin=(_vector(fields["space origin"], to_lps) if "space origin" in fields else None) or (0.0,) * dims,
        data_file=fields.get("data file", fields.get("datafile")),
    )


def _vector(text: str, to_lps: np.ndarray) -> tuple[float, ...] | None:
    """Parse a vector such as ``(1,0,0)`` and convert it to LPS; ``None`` for the text ``none``."""
    if text == "none":
        return None
    values = [float(v) for v in text.strip("()").split(",")]
    return tuple(float(v) for v in values * to_lps[: len(values)])


def _geometry(header: _Header) -> tuple[Geometry, list[int]]:
    """Geometry of the image, and the indices of the spatial axes in file order."""
    spatial = [a for a, d in enumerate(header.directions) if d is not None]
    if len(header.directions) != len(header.sizes) or len(spatial) not in (2, 3):
        msg = f"{len(header.directions)} axis directions, {len(spatial)} of them spatial, for sizes {header.sizes}"
        raise ValueError(msg)
    if not np.isfinite(header.origin).all():
        msg = f"space origin {header.origin}"
        raise ValueError(msg)
    vectors = np.array([header.directions[a] for a in reversed(spatial)])
    spacing = np.linalg.norm(vectors, axis=1)
    shape = tuple(header.sizes[a] for a in reversed(spatial))
    if not (spacing > 0).all():
        msg = f"spacing {spacing.tolist()}"
        raise ValueError(msg)
    return Geometry(shape, tuple(spacing.tolist()), header.origin, (vectors / spacing[:, None]).T), spatial


def _data(path: Path, header: _Header, attached: bytes) -> np.ndarray:
    if header.encoding not in _ENCODINGS:
        msg = f"{path}: has the NRRD encoding '{header.encoding[:40]}'; save it as raw or gzip"
        raise DataError(msg)
    needed = check_size(path, header.sizes, header.dtype.itemsize)
    stored = attached if header.data_file is None else read_content(beside(path, header.data_file))
    compression = _ENCODINGS[header.encoding]
    data = stored if compression is None else decompressed(path, stored, compression, needed)
    if len(data) < needed:
        raise damaged(path, f"it is truncated, {needed - len(data)} bytes are missing")
    return np.frombuffer(data, header.dtype, math.prod(header.sizes))
