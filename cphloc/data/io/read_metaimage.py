"""Read MetaImage files with SimpleITK, after a check for truncated data, which ITK does not report."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np

from cphloc.data.io.itk import damaged, geometry_of, reading
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
    with reading(path):
        image = sitk.ReadImage(str(path))
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
    content = path.read_bytes()
    header_end = content.find(b"\n", max(content.find(b"ElementDataFile"), 0)) + 1
    lines = content[:header_end].decode("latin-1").splitlines()
    fields = {k.strip(): v.strip() for k, _, v in (line.partition("=") for line in lines)}
    try:
        sizes = [int(n) for n in fields["DimSize"].split()]
        itemsize, data_file = _META_BYTES[fields["ElementType"]], fields["ElementDataFile"]
        expected = math.prod(sizes) * int(fields.get("ElementNumberOfChannels", 1)) * itemsize
    except (KeyError, ValueError) as error:
        raise damaged(path, f"it is not MetaImage, or a header field is missing or invalid: {error}") from error
    if min(sizes, default=0) < 1:
        raise damaged(path, f"its header has the invalid size {sizes}")
    if data_file == "LIST" or "%" in data_file:
        msg = f"{path}: stores its slices in several files; convert it to one .mha or .nii.gz"
        raise DataError(msg)
    if data_file.upper() == "LOCAL":
        data = content[header_end:]
    elif (path.parent / data_file).is_file():
        data = (path.parent / data_file).read_bytes()
    else:
        raise damaged(path, f"its voxel file '{data_file}' is missing in the same folder")
    if fields.get("CompressedData", "False").lower() == "true":
        try:
            data = zlib.decompress(data)
        except zlib.error as error:
            raise damaged(path, f"its compressed data is truncated or damaged: {error}") from error
    if len(data) < expected:
        raise damaged(path, f"it is truncated, {expected - len(data)} bytes are missing")
