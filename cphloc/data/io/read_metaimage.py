"""Read MetaImage files: the geometry with SimpleITK, the voxels here.

For truncated files, and compressed ones without CompressedDataSize, ITK returns undefined voxels without an error.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.data.io.content import beside, check_size, decompressed, numbered, read_content, read_files
from cphloc.data.io.itk import damaged, geometry_of, reading
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

_DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
"""ElementType -> NumPy type without byte order."""
_REFUSED = {
    "ElementToIntensityFunctionSlope": "1",
    "ElementToIntensityFunctionOffset": "0",
}
"""Fields that change the values and that ITK leaves out -> the value that changes nothing."""
_LONGEST = 1000
"""Longest value of a field; ITK copies values to arrays of a fixed length."""
_UNITS_MM = {"?": 1.0, "um": 1e-3, "mm": 1.0, "cm": 10.0}
"""DistanceUnits -> millimetres; ITK leaves the field out."""


def read_metaimage(path: Path) -> Volume:
    """Read a MetaImage file with its geometry; vector components, or the volumes of a 4-D image, become channels.

    Raises:
        DataError: the file is damaged, not a MetaImage, or contains several volumes with several values per voxel.
    """
    import SimpleITK as sitk

    fields, attached, listed = _open(path)
    stored = _voxels(path, fields, attached, _voxel_files(path, fields, listed))
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("MetaImageIO")
    with reading(path):
        reader.ReadImageInformation()
        volumes = _volumes(path, reader)
        geometry = _in_millimetres(path, geometry_of(reader), fields)
    array = stored.reshape(volumes, *geometry.shape, -1)
    array = array[..., 0] if volumes > 1 else np.moveaxis(array[0], -1, 0)
    return Volume(array.astype(np.float32) if array.dtype == np.float64 else array, geometry, None, str(path))


def _volumes(path: Path, reader: sitk.ImageFileReader) -> int:
    """Number of volumes along the fourth axis.

    Raises:
        DataError: they have several values per voxel, or are not all in one place, or there is a fifth axis.
    """
    size = reader.GetSize()
    volumes = math.prod(size[3:])
    direction = np.reshape(reader.GetDirection(), (len(size), len(size)))
    together = len(size) <= 4 and not direction[:3, 3:].any() and not direction[3:, :3].any()
    if volumes > 1 and (not together or reader.GetNumberOfComponents() > 1):
        msg = f"{path}: is a series of {volumes} volumes; split it and pass one file per volume or channel"
        raise DataError(msg)
    return volumes


def voxel_files(path: Path) -> list[Path]:
    """List the files with the voxels of a header; none where they follow the header.

    Raises:
        DataError: the header is damaged, or a file is missing or in another folder.
    """
    fields, _, listed = _open(path)
    return _voxel_files(path, fields, listed)


def _open(path: Path) -> tuple[dict[str, str], bytes, list[str]]:
    """Fields of a header, what follows them, and the names of files that follow ``ElementDataFile = LIST``."""
    content = read_content(path)
    header_end = content.find(b"\n", max(content.find(b"ElementDataFile"), 0)) + 1
    fields = _fields(path, content[:header_end])
    attached = content[header_end:]
    is_list = fields.get("ElementDataFile", "").split()[:1] == ["LIST"]
    listed = [line.strip() for line in attached.decode("latin-1").splitlines()] if is_list else []
    return fields, attached, [name for name in listed if name]


def _voxel_files(path: Path, fields: dict[str, str], listed: list[str]) -> list[Path]:
    data_file = fields.get("ElementDataFile", "")
    if data_file.upper() == "LOCAL":
        return []
    first, *rest = data_file.split() or [""]
    names = listed if first == "LIST" else [data_file]
    if "%" in first and len(rest) >= 3:
        try:
            low, high, step = map(int, rest[:3])
            names = numbered(first, low, high, step)
        except (ValueError, TypeError) as error:
            raise damaged(path, f"its voxel file '{data_file[:60]}' is no pattern of file names") from error
    return [beside(path, name) for name in names]


def _voxels(path: Path, fields: dict[str, str], attached: bytes, files: list[Path]) -> np.ndarray:
    """Decode all values, in file order."""
    try:
        sizes = [int(n) for n in fields["DimSize"].split()]
        dtype = np.dtype(_DTYPES[fields["ElementType"].removesuffix("_ARRAY")])
        sizes.append(int(fields.get("ElementNumberOfChannels", 1)))
        skip = int(fields.get("HeaderSize", 0))
        dims = int(fields["NDims"])
        changed = [n for n, neutral in _REFUSED.items() if float(fields.get(n, neutral)) != float(neutral)]
        data_file = fields["ElementDataFile"]
    except (KeyError, ValueError) as error:
        raise damaged(path, f"it is not MetaImage, or a header field is missing or invalid: {error}") from error
    if changed:
        msg = f"{path}: its values are to be rescaled ({changed[0]} = {fields[changed[0]]}); save the real values"
        raise DataError(msg)
    if not 2 <= dims <= 5 or len(sizes) != dims + 1 or max(map(len, fields.values())) > _LONGEST:
        raise damaged(
            path, f"its header states {fields['NDims'][:20]} axes and {len(sizes) - 1} sizes, or a long value"
        )
    needed = check_size(path, sizes, dtype.itemsize)
    if not files and data_file.upper() != "LOCAL":
        raise damaged(path, f"its voxel file '{data_file[:60]}' names no file")
    stored: list[bytes] = read_files(path, files) if files else [attached]
    if needed % len(stored):
        raise damaged(path, f"its {len(stored)} voxel files cannot hold {needed} bytes")
    share = needed // len(stored)
    if not _is_true(fields, "BinaryData", "True"):
        return np.concatenate([_from_text(path, content, dtype, share) for content in stored])
    big = _is_true(fields, "BinaryDataByteOrderMSB") or _is_true(fields, "ElementByteOrderMSB")
    compressed = _is_true(fields, "CompressedData")
    data = b"".join(_binary(path, content, share, skip, compressed) for content in stored)
    return np.frombuffer(data, dtype.newbyteorder(">" if big else "<")).astype(dtype, copy=False)


def _binary(path: Path, content: bytes | bytearray, needed: int, skip: int, compressed: bool) -> bytes | bytearray:
    """The ``needed`` bytes after ``skip`` bytes; -1 stands for those at the end."""
    if compressed:
        content, skip = decompressed(path, content[max(skip, 0) :], "zlib", needed), 0
    start = len(content) - needed if skip == -1 else skip
    missing = needed - (len(content) - start) if start >= 0 else -start
    if missing > 0:
        raise damaged(path, f"it is truncated, {missing} bytes are missing")
    return content[start : start + needed]


def _from_text(path: Path, content: bytes, dtype: np.dtype, needed: int) -> np.ndarray:
    try:
        values = np.array(content.split(), dtype)
    except (ValueError, OverflowError) as error:
        raise damaged(path, f"its text is not of numbers: {error}") from error
    if values.nbytes < needed:
        raise damaged(path, f"it is truncated, {(needed - values.nbytes) // dtype.itemsize} values are missing")
    return values[: needed // dtype.itemsize]


def _is_true(fields: dict[str, str], name: str, default: str = "False") -> bool:
    return fields.get(name, default).lower() in ("true", "t", "1")


def _in_millimetres(path: Path, geometry: Geometry, fields: dict[str, str]) -> Geometry:
    unit = fields.get("DistanceUnits", "mm")
    if unit not in _UNITS_MM:
        raise damaged(path, f"its DistanceUnits '{unit[:40]}' are none of {', '.join(_UNITS_MM)}")
    scale = _UNITS_MM[unit]
    if scale == 1:
        return geometry
    spacing, origin = (tuple(v * scale for v in values) for values in (geometry.spacing_mm, geometry.origin_mm))
    return replace(geometry, spacing_mm=spacing, origin_mm=origin)


def _fields(path: Path, header: bytes) -> dict[str, str]:
    """Parse the lines ``Key = value``; whatever ITK might parse in another way is refused."""
    fields: dict[str, str] = {}
    for line in header.decode("latin-1").split("\n")[:-1]:
        match = re.fullmatch(r"[ \t]*([A-Za-z]\w{0,60})[ \t]*=([^\x00-\x08\x0b-\x1f]*)\r?", line)
        if match is None or match[1] in fields:
            what = "a repeated field" if match else "a line that is not 'Key = value'"
            raise damaged(path, f"it is not MetaImage, or its header has {what}: {line[:60]!r}")
        fields[match[1]] = match[2].strip()
    return fields
