"""Read MetaImage files with SimpleITK, after a check for truncated data, which ITK does not report."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from cphloc.data.io.content import beside, check_size, decompressed, read_content
from cphloc.data.io.itk import damaged, encodable, geometry_of, reading
from cphloc.errors import DataError
from cphloc.structures.volume import Volume

_META_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}


def read_metaimage(path: Path) -> Volume:
    """Read a MetaImage file with its geometry; vector components become channels.

    Raises:
        DataError: the file is damaged, not a MetaImage, or contains more than one volume.
    """
    import SimpleITK as sitk

    _check_data(path)
    with reading(path), encodable(path) as name:
        image = sitk.ReadImage(name, imageIO="MetaImageIO")
        extra = math.prod(image.GetSize()[3:])
        if extra > 1:
            msg = f"{path}: is a series of {extra} volumes; split it and pass one file per volume or channel"
            raise DataError(msg)
        geometry = geometry_of(image)
        array = sitk.GetArrayFromImage(image)
    components = image.GetNumberOfComponentsPerPixel()
    array = array.reshape(*geometry.shape, components)
    array = array[None, ..., 0] if components == 1 else np.moveaxis(array, -1, 0)
    return Volume(array.astype(np.float32) if array.dtype == np.float64 else array, geometry, None, str(path))


def _check_data(path: Path) -> None:
    """Check that the file contains all the voxel data described by its header."""
    content = read_content(path)
    header_end = content.find(b"\n", max(content.find(b"ElementDataFile"), 0)) + 1
    fields = _fields(path, content[:header_end])
    try:
        sizes = [int(n) for n in fields["DimSize"].split()]
        itemsize, data_file = _META_BYTES[fields["ElementType"]], fields["ElementDataFile"]
        sizes.append(int(fields.get("ElementNumberOfChannels", 1)))
    except (KeyError, ValueError) as error:
        raise damaged(path, f"it is not MetaImage, or a header field is missing or invalid: {error}") from error
    expected = check_size(path, sizes, itemsize)
    if data_file == "LIST" or "%" in data_file:
        msg = f"{path}: stores its slices in several files; convert it to one .mha or .nii.gz"
        raise DataError(msg)
    data = content[header_end:] if data_file.upper() == "LOCAL" else read_content(beside(path, data_file))
    if fields.get("CompressedData", "False").lower() == "true":
        data = decompressed(path, data, "zlib", expected)
    if len(data) < expected:
        raise damaged(path, f"it is truncated, {expected - len(data)} bytes are missing")


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
