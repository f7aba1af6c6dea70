"""NIfTI-1: SimpleITK tells where the image lies, the voxels are decoded here.

ITK's reader returns voxels for a truncated or damaged file without an error. Decompressing the file whole checks its
length and checksum, and takes half the time.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cphloc.data.itk import damaged, geometry_of, reading
from cphloc.data.volume import Volume
from cphloc.errors import DataError

_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_NIFTI2 = (struct.pack("<i4s", 540, b"n+2\0"), struct.pack(">i4s", 540, b"n+2\0"))
_RGB = {128: 3, 2304: 4}


@dataclass(frozen=True)
class _Header:
    """Fields of the NIfTI header that describe the voxels; names as in the standard (nifti1.h)."""

    dim: tuple[int, ...]
    datatype: int
    vox_offset: int
    scl_slope: float
    scl_inter: float
    byte_order: str


def read_nifti(path: Path) -> Volume:
    """Read a ``.nii`` or ``.nii.gz`` file.

    Raises:
        DataError: damaged, not NIfTI, or a series of volumes.
    """
    import SimpleITK as sitk

    content = _content(path)
    header = _header(path, content)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with reading(path):
        reader.ReadImageInformation()
        geometry = geometry_of(reader)
    return Volume(_voxels(path, content, header, geometry.shape), geometry, None, str(path))


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, f"its gzip data is truncated or damaged: {error}") from error


def _header(path: Path, content: bytes) -> _Header:
    if content[:8] in _NIFTI2:
        msg = f"{path}: is NIfTI-2, which ITK does not read; convert it to NIfTI-1"
        raise DataError(msg)
    order = next((o for o in "<>" if len(content) >= 348 and struct.unpack_from(o + "i", content) == (348,)), None)
    if order is None or content[344:347] != b"n+1":
        raise damaged(path, f"it is not NIfTI, it begins with {content[:12]!r}")
    rank, *dim = struct.unpack_from(order + "8h", content, 40)
    (datatype,) = struct.unpack_from(order + "h", content, 70)
    offset, slope, inter = struct.unpack_from(order + "3f", content, 108)
    if not (1 <= rank <= 7 and min(dim[:rank]) >= 1 and math.isfinite(offset)):
        raise damaged(path, f"its header states the size {tuple(dim)}")
    return _Header(tuple(dim[:rank]), datatype, int(offset), slope, inter, order)


def _voxels(path: Path, content: bytes, header: _Header, shape: tuple[int, ...]) -> np.ndarray:
    """Voxels as ``(C, *shape)``, rescaled."""
    dims = len(shape)
    if header.dim[:dims] != shape[::-1]:
        raise damaged(path, f"its header contradicts itself about the size: {header.dim} and {shape[::-1]}")
    times, components = math.prod(header.dim[3:4]), math.prod(header.dim[4:])
    if times > 1:
        msg = f"{path}: is a series of {times} volumes; split it and give one file per volume or channel"
        raise DataError(msg)
    colours = _RGB.get(header.datatype, 1)
    if header.datatype not in _DTYPES and colours == 1:
        raise damaged(path, f"its voxels have NIfTI datatype {header.datatype}, not real numbers")
    dtype = np.dtype(header.byte_order + _DTYPES.get(header.datatype, "u1"))
    count = math.prod(header.dim) * colours
    if header.vox_offset < 0 or len(content) < header.vox_offset + count * dtype.itemsize:
        missing = header.vox_offset + count * dtype.itemsize - len(content)
        raise damaged(path, f"it is truncated, {missing} bytes are missing")
    stored = np.frombuffer(content, dtype, count, header.vox_offset)
    if colours > 1:
        stored = np.moveaxis(stored.reshape(*shape, colours)[..., :3], -1, 0)
    return _rescaled(stored.reshape(-1 if colours > 1 else components, *shape), header)


def _rescaled(stored: np.ndarray, header: _Header) -> np.ndarray:
    slope, inter = header.scl_slope, header.scl_inter
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(inter) or (slope, inter) == (1.0, 0.0):
        native = stored.dtype.newbyteorder("=")
        return stored.astype(np.float32 if native == np.float64 else native)
    return (stored * np.float64(slope) + inter).astype(np.float32)
