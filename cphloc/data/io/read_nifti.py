"""Read NIfTI-1 and NIfTI-2.

ITK does not read NIfTI-2, returns voxels for a truncated file without an error, and uses the qform of some files that
have an sform. Here the sform is used where its code is set, else the qform (nifti1.h, "3D IMAGE ORIENTATION AND
LOCATION IN SPACE"), as in nibabel. nibabel is not used because it takes more than a second to import.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np

from cphloc.data.io.content import check_size, decompressed, read_content
from cphloc.data.io.itk import damaged
from cphloc.errors import DataError, InputError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

_FIELDS = {
    "dim": (("8i2", 40), ("8i8", 16)),
    "intent_code": (("i2", 68), ("i4", 504)),
    "datatype": (("i2", 70), ("i2", 12)),
    "pixdim": (("8f4", 76), ("8f8", 104)),
    "vox_offset": (("f4", 108), ("i8", 168)),
    "scl_slope": (("f4", 112), ("f8", 176)),
    "scl_inter": (("f4", 116), ("f8", 184)),
    "xyzt_units": (("u1", 123), ("i4", 500)),
    "qform_code": (("i2", 252), ("i4", 344)),
    "sform_code": (("i2", 254), ("i4", 348)),
    "quatern": (("3f4", 256), ("3f8", 352)),
    "qoffset": (("3f4", 268), ("3f8", 376)),
    "srow": (("(3,4)f4", 280), ("(3,4)f8", 400)),
}
"""Header field -> (NumPy type, byte offset) in NIfTI-1 and in NIfTI-2 (nifti1.h, nifti2.h)."""
_VERSIONS = ((348, 344, b"1"), (540, 4, b"2"))
"""Header size in bytes, byte offset of the magic string, and its last character, of NIfTI-1 and of NIfTI-2."""
_BYTE_ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_RGB = {128: 3, 2304: 4}
_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Code of the spatial unit -> factor to millimetres; 0 (unknown) means millimetres."""
_NOT_IMAGES = (1004, 1005, 1008, 1009, 1010, 2002, 2005)
"""Intent codes of matrices, point sets, triangles, quaternions, node indices and shapes."""
_CIFTI = range(3000, 3100)
"""Intent codes of CIFTI-2, whose axes are vertices, parcels and series."""
_MOST_OFFSET = 1 << 26
"""Largest offset of the voxels: header extensions before them hold text."""


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file with its geometry in LPS mm; voxel values are rescaled by ``scl_slope`` and ``scl_inter``.

    Several volumes (4th axis, as in the Medical Segmentation Decathlon) or several values per voxel become channels.
    The voxels of a header file (``.hdr``) are in the file of the same name that ends in ``.img`` or ``.img.gz``.

    Raises:
        DataError: the file is damaged, not NIfTI, has a sheared grid, or contains several volumes with several values
            per voxel.
    """
    stored = read_content(path)
    start = decompressed(path, stored, "gzip", _VERSIONS[-1][0], whole=False) if _is_zipped(stored) else stored
    header, byte_order, detached = _header(path, start)
    rank, *dim = (int(n) for n in header["dim"])
    if not (1 <= rank <= 7 and min(dim[:rank]) >= 1 and 0 <= header["vox_offset"] <= _MOST_OFFSET):
        raise damaged(path, f"its header has the invalid size {tuple(dim)} or voxel offset {header['vox_offset']}")
    if int(header["intent_code"]) in (*_NOT_IMAGES, *_CIFTI):
        msg = f"{path}: holds matrices or surfaces, by its intent code {header['intent_code']}; pass an image"
        raise DataError(msg)
    geometry = _geometry(path, header, tuple(dim[: min(rank, 3)]))
    needed = int(header["vox_offset"]) + check_size(path, dim[:rank], _itemsize(path, header))
    if detached:
        stored = read_content(_detached_file(path))
    content = decompressed(path, stored, "gzip", needed) if _is_zipped(stored) else stored
    array = _voxels(path, content, header, byte_order, geometry.shape)
    return Volume(array, geometry, None, str(path), notes=_notes(path, header))


def voxel_files(path: Path) -> list[Path]:
    """List the file with the voxels of a header file (``.hdr``); none for other files.

    Raises:
        DataError: the file is missing.
    """
    return [_detached_file(path)] if path.name.lower().endswith((".hdr", ".hdr.gz")) else []


def _detached_file(path: Path) -> Path:
    """File with the voxels of a header file."""
    stem = path.name[: path.name.lower().rindex(".hdr")] if ".hdr" in path.name.lower() else path.name
    names = [stem + suffix for suffix in (".img", ".img.gz", ".IMG", ".IMG.GZ")]
    found = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    if found is None:
        raise damaged(path, f"its voxel file '{names[0]}' is missing in the same folder")
    return found


def _is_zipped(content: bytes) -> bool:
    return content[:2] == b"\x1f\x8b"


def _itemsize(path: Path, header: np.void) -> int:
    """Bytes of one voxel."""
    datatype = int(header["datatype"])
    if datatype not in _DTYPES and datatype not in _RGB:
        raise damaged(path, f"its NIfTI datatype {datatype} is not a real number or RGB type")
    return _RGB.get(datatype) or np.dtype(_DTYPES[datatype]).itemsize


def _header(path: Path, content: bytes | bytearray) -> tuple[np.void, str, bool]:
    """Parse the header.

    Returns:
        a NumPy record, the byte order of the file, ``<`` or ``>``, and whether the voxels are in another file.
    """
    for version, (size, place, magic) in enumerate(_VERSIONS):
        for order in _BYTE_ORDERS:
            states = np.frombuffer(content[:4].ljust(4), order + "i4")[0]
            if states != size or len(content) < size:
                continue
            if bytes(content[place : place + 3]) in (b"n+" + magic, b"ni" + magic):
                header = np.frombuffer(content, _header_dtype(size, version).newbyteorder(order), 1)[0]
                return header, order, content[place + 1 : place + 2] == b"i"
            if version == 0:
                msg = f"{path}: is an ANALYZE 7.5 header, which has no orientation; convert the image to NIfTI"
                raise DataError(msg)
    raise damaged(path, f"it is not NIfTI, its first bytes are {bytes(content[:12])!r}")


def _header_dtype(size: int, version: int) -> np.dtype[np.void]:
    """Structured dtype of a header of ``size`` bytes; ``version`` is 0 for NIfTI-1 and 1 for NIfTI-2."""
    formats = [field[version][0] for field in _FIELDS.values()]
    offsets = [field[version][1] for field in _FIELDS.values()]
    return np.dtype({"names": list(_FIELDS), "formats": formats, "offsets": offsets, "itemsize": size})


def _geometry(path: Path, header: np.void, dim: tuple[int, ...]) -> Geometry:
    """Geometry in LPS mm; for a 2-D image, the third world axis is dropped."""
    dims = len(dim)
    if dims < 2:
        raise damaged(path, f"it is not an image but a 1-D array of {dim[0]} values")
    if int(header["xyzt_units"]) & 7 not in _MM:
        raise damaged(path, f"its code {int(header['xyzt_units']) & 7} of a unit of length is not defined")
    affine = np.diag([-1.0, -1.0, 1.0]) @ _affine(header)
    steps = affine[:dims, :dims]
    if dims == 2 and not np.allclose(affine[2, :2], 0, atol=1e-3 * np.abs(affine[:, :2]).max()):
        steps = np.diag(np.linalg.norm(affine[:, :2], axis=0))
    spacing = np.linalg.norm(steps, axis=0)
    direction = (steps / np.where(spacing > 0, spacing, 1))[:, ::-1]
    try:
        return Geometry(dim[::-1], tuple(spacing[::-1].tolist()), tuple(affine[:dims, 3].tolist()), direction)
    except InputError as error:
        raise damaged(path, " ".join(str(error).split())) from error


def _affine(header: np.void) -> np.ndarray:
    """Affine ``(3, 4)`` from voxel index (x, y, z) to RAS mm; LPS axes at the origin without sform and qform."""
    if header["sform_code"] > 0:
        affine = header["srow"].astype(float)
    elif header["qform_code"] > 0:
        affine = _qform(header)
    else:
        affine = np.column_stack([np.diag(np.abs(header["pixdim"][1:4]) * [-1.0, -1.0, 1.0]), np.zeros(3)])
    return affine * _MM[int(header["xyzt_units"]) & 7]


def _qform(header: np.void) -> np.ndarray:
    """Affine ``(3, 4)`` of the quaternion, in the unit of the file."""
    steps = _rotation(header["quatern"].astype(float)) * np.abs(header["pixdim"][1:4].astype(float))
    steps[:, 2] *= -1 if header["pixdim"][0] < 0 else 1
    return np.column_stack([steps, header["qoffset"].astype(float)])


def _notes(path: Path, header: np.void) -> tuple[str, ...]:
    """What the header states twice in different ways, or not at all."""
    if header["sform_code"] <= 0:
        unknown = f"{path}: states neither sform nor qform: its axes are taken as left, posterior and superior"
        return () if header["qform_code"] > 0 else (unknown,)
    sform, notes = header["srow"].astype(float), []
    lengths, pixdim = np.linalg.norm(sform[:, :3], axis=0), np.abs(header["pixdim"][1:4].astype(float))
    used = slice(0, min(int(header["dim"][0]), 3))
    if not np.allclose(lengths[used], pixdim[used], rtol=0.01):
        stated = [" x ".join(f"{n:.4g}" for n in sizes[used]) for sizes in (pixdim, lengths)]
        notes.append(f"{path}: pixdim states voxels of {stated[0]}, and sform, which is used, {stated[1]}")
    if header["qform_code"] > 0 and used.stop == 3:
        qform = _qform(header)
        if np.linalg.det(qform[:, :3]) * np.linalg.det(sform[:, :3]) < 0:
            notes.append(f"{path}: qform and sform mirror each other, left or right is uncertain; sform is used")
        elif np.abs(qform - sform).max() > 0.5 * lengths.min():
            notes.append(f"{path}: qform and sform place it differently; sform is used")
    return tuple(notes)


def _rotation(quatern: np.ndarray) -> np.ndarray:
    """Rotation matrix ``(3, 3)`` of the unit quaternion (a, b, c, d) from b, c and d (nifti1.h, "METHOD 2")."""
    rest = 1 - float(quatern @ quatern)
    # For a rotation by 180 degrees a is 0; in single precision the computed value is rounding noise.
    a, (b, c, d) = (math.sqrt(rest), quatern) if rest > 1e-6 else (0.0, quatern / math.sqrt(1 - rest))
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def _voxels(
    path: Path, content: bytes | bytearray, header: np.void, byte_order: str, shape: tuple[int, ...]
) -> np.ndarray:
    """Decode the voxel data to ``(C, *shape)``, rescaled; the 4th or the 5th axis of the file holds the channels."""
    rank, *dim = (int(n) for n in header["dim"])
    times, components = math.prod(dim[3:rank][:1]), math.prod(dim[4:rank])
    datatype, offset = int(header["datatype"]), int(header["vox_offset"])
    colours = _RGB.get(datatype, 1)
    if times > 1 and components * colours > 1:
        msg = f"{path}: is a series of {times} volumes with several values per voxel; pass one file per volume"
        raise DataError(msg)
    dtype = np.dtype(byte_order + _DTYPES.get(datatype, "u1"))
    count = math.prod(dim[:rank]) * colours
    missing = offset + count * dtype.itemsize - len(content)
    if offset < 0 or missing > 0:
        raise damaged(path, f"it is truncated, {missing} bytes are missing")
    stored = np.frombuffer(content, dtype, count, offset)
    if colours > 1:
        stored = np.moveaxis(stored.reshape(*shape, colours)[..., :3], -1, 0)
    return _rescaled(path, stored.reshape(-1 if colours > 1 else times * components, *shape), header)


def _rescaled(path: Path, stored: np.ndarray, header: np.void) -> np.ndarray:
    """Apply slope and intercept where they are set; the result is float32, or of the stored integer type."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope) or (slope, inter) == (1.0, 0.0):
        native = stored.dtype.newbyteorder("=")
        return stored.astype(np.float32 if native == np.float64 else native)
    if not math.isfinite(inter):
        raise damaged(path, f"it has the slope {slope:g} (scl_slope) and the intercept {inter} (scl_inter)")
    return (stored * np.float64(slope) + inter).astype(np.float32)
