"""OpenKBP from its repository: CT and organ contours as lists of voxels, cropped to the body that was scanned."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from cphloc.data.io.table import read_table
from cphloc.data.io.write import write_mask, write_volume
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry

FOLDERS = {"train": "train-pats", "val": "validation-pats", "test": "test-pats"}
"""Split -> folder of the repository below ``provided-data``."""

CONTOURS = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Mandible", "Larynx", "Esophagus")
"""Files of the organs 1 to 7 of `cphloc.data.datasets.openkbp.ORGANS`."""

SIDE = 128
"""Voxels of a volume along each axis."""

LEAST_AREA_CM2 = 60.0
"""Axial slices with less body were set to air by the authors, except around the contours."""


def build(source: Path, target: Path) -> str:
    """Write images and labels of every case of ``target/cases.csv``.

    Args:
        source: folder ``provided-data`` of the repository.
        target: folder of the data set, with its table.

    Returns:
        SHA-256 of the voxels of all cases, in the order of the table.

    Raises:
        DataError: the files of a case are missing or damaged.
    """
    digest = hashlib.sha256()
    for folder in ("images", "labels"):
        (target / folder).mkdir()
    for row in read_table(target / "cases.csv", needed=("case", "split")):
        case = row["case"]
        files = source / FOLDERS[row["split"]] / f"pt_{int(case.removeprefix('pt_'))}"
        image, labels, geometry = read_patient(files)
        write_volume(target / "images" / f"{case}.nii.gz", image, geometry)
        write_mask(target / "labels" / f"{case}.nii.gz", labels, geometry)
        digest.update(f"{case} {image.shape}".encode() + image.tobytes() + labels.tobytes())
    return digest.hexdigest()


def read_patient(folder: Path) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """Read a patient, cropped as the data set of cphloc is.

    The volume is cropped to the body with a margin of a voxel, then to the longest run of axial slices whose body has
    more than `LEAST_AREA_CM2`, then to the body again.

    Returns:
        CT in HU ``(D, H, W)`` int16, classes of the organs uint8, and their geometry, whose origin is the centre of the
        first crop.

    Raises:
        DataError: a file is missing or damaged, or no slice holds enough body.
    """
    spacing = np.loadtxt(_existing(folder / "voxel_dimensions.csv"), ndmin=1)
    if spacing.shape != (3,) or not (spacing > 0).all():
        msg = f"{folder / 'voxel_dimensions.csv'}: does not hold three lengths; download the archive again"
        raise DataError(msg)
    ct = _upright(_volume(folder / "ct.csv", values=True))
    first = _body_box(ct > 0, folder)
    body = ct[first] > 0
    start, stop = _longest_run(body.sum((1, 2)) * spacing[0] * spacing[1] / 100 > LEAST_AREA_CM2)
    second = _body_box(body[start:stop], folder)
    starts = [start + second[0].start, second[1].start, second[2].start]
    whole = tuple(
        slice(f.start + s, f.start + s + b.stop - b.start) for f, s, b in zip(first, starts, second, strict=True)
    )
    labels = np.zeros(ct.shape, np.uint8)
    for number, name in enumerate(CONTOURS, 1):
        if (file := folder / f"{name}.csv").is_file():
            labels[_upright(_volume(file, values=False)) > 0] = number
    spacing_zyx = spacing[[2, 1, 0]]
    centre = np.array([f.stop - f.start - 1 for f in first]) / 2
    origin = (np.array(starts) - centre) * spacing_zyx
    hu = (np.clip(ct[whole], 0, 4095) - 1024).astype(np.int16)
    return hu, np.ascontiguousarray(labels[whole]), _geometry(hu.shape, spacing_zyx, origin)


def _geometry(shape: tuple[int, ...], spacing_zyx: np.ndarray, origin_zyx: np.ndarray) -> Geometry:
    """Geometry of an array whose axes run to superior, anterior and right."""
    z, y, x = (float(value) for value in origin_zyx)
    direction = np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]], float)
    return Geometry(shape, tuple(map(float, spacing_zyx)), (-x, -y, z), direction)


def _volume(path: Path, values: bool) -> np.ndarray:
    """Read a list of voxels into an array; without values, those listed become 1."""
    try:
        rows = np.loadtxt(_existing(path), delimiter=",", skiprows=1, usecols=(0, 1) if values else (0,), ndmin=2)
        index = rows[:, 0].astype(np.int64)
        volume = np.zeros(SIDE**3, np.float64)
        if index.size and not (index.min() >= 0 and index.max() < volume.size):
            msg = f"voxel {index.max()} lies outside {SIDE} x {SIDE} x {SIDE}"
            raise ValueError(msg)
        volume[index] = rows[:, 1] if values else 1
    except (ValueError, IndexError) as error:
        msg = f"{path}: is not a list of voxels ({error}); download the archive again"
        raise DataError(msg) from None
    return volume.reshape(SIDE, SIDE, SIDE)


def _existing(path: Path) -> Path:
    if not path.is_file():
        msg = f"{path}: no such file; the source is incomplete: download the archive again, or give the whole of it"
        raise DataError(msg)
    return path


def _upright(volume: np.ndarray) -> np.ndarray:
    """Turn axes that run to posterior, left and inferior into ones that run to superior, anterior and right."""
    return volume.transpose(2, 0, 1)[::-1, ::-1, ::-1]


def _body_box(body: np.ndarray, folder: Path) -> tuple[slice, slice, slice]:
    """Bounding box of the body with a margin of a voxel."""
    slices = []
    for axis, size in enumerate(body.shape):
        held = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
        if not held.size:
            msg = f"{folder}: its CT holds no body; download the archive again"
            raise DataError(msg)
        slices.append(slice(max(held[0] - 1, 0), min(held[-1] + 2, size)))
    return slices[0], slices[1], slices[2]


def _longest_run(flags: np.ndarray) -> tuple[int, int]:
    """Begin and end of the longest run of true values; the first of those that are as long."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    runs = list(zip(edges[::2], edges[1::2], strict=True))
    return max(runs, key=lambda run: run[1] - run[0], default=(0, 0))
