"""Read the contours of a DICOM RTSTRUCT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.data.io.contour_fill import rasterize
from cphloc.data.io.dicom_file import read_dicom_file
from cphloc.data.io.dicom_origin import check_origin
from cphloc.data.io.dicom_slices import parsing
from cphloc.data.io.regions import Region
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR", "CLOSEDPLANAR_XOR")
_XOR = "CLOSEDPLANAR_XOR"
_GEOMETRIC_TYPE, _CONTOUR_DATA = 0x30060042, 0x30060050
_ENDS_MEET_MM = 1e-3


def read_rtstruct(path: str | Path, like: Geometry, images: Sequence[str] = ()) -> dict[str, Region]:
    """Read the regions of interest.

    Args:
        path: the RTSTRUCT file.
        like: grid of the image.
        images: files or folders of the image that is annotated; where they are DICOM, the contours must belong to it.

    Returns:
        name -> region, in the order of the file. Of several regions of one name, the one that was drawn counts.

    Raises:
        DataError: the file is missing, damaged, not an RTSTRUCT or one of another image.
    """
    regions: dict[str, Region] = {}
    for name, contours in _read(Path(path), images):
        region, earlier = _region(contours, like), regions.get(name)
        if earlier is None or not earlier.drawn:
            regions[name] = region
        elif region.drawn:
            regions[name] = replace(region, problem="is drawn twice under this name; rename one")
    return regions


def read_contours(path: str | Path) -> dict[str, list[np.ndarray]]:
    """Read the closed contours of every region of interest.

    Returns:
        name of the region -> its contours, each ``(n, 3)`` points in LPS mm; empty where it has no closed contour.

    Raises:
        DataError: the file is missing, damaged or not an RTSTRUCT, or two regions have the same name.
    """
    regions = _read(Path(path))
    if len({name for name, _ in regions}) < len(regions):
        msg = f"{path}: two regions have the same name among {sorted(name for name, _ in regions)}; rename one"
        raise DataError(msg)
    return {name: [points for kind, points in drawn if kind in _CLOSED] for name, drawn in regions}


def _read(path: Path, images: Sequence[str] = ()) -> list[tuple[str, list[tuple[str, np.ndarray]]]]:
    """Name and contours of each region: geometric type and points ``(n, 3)``."""
    if not path.is_file():
        msg = f"{path}: does not exist; pass the RTSTRUCT file"
        raise DataError(msg)
    with parsing(path):
        dataset = read_dicom_file(path)
        if dataset.get("Modality") != "RTSTRUCT":
            msg = f"{path}: is not an RTSTRUCT (modality {dataset.get('Modality')}); pass the RTSTRUCT file"
            raise DataError(msg)
        names = {int(roi.ROINumber): str(roi.ROIName).strip() for roi in dataset.get("StructureSetROISequence", [])}
        check_origin(path, dataset, images)
        contours: dict[int, list[tuple[str, np.ndarray]]] = {number: [] for number in names}
        for roi in dataset.get("ROIContourSequence") or []:
            for contour in roi.get("ContourSequence") or []:
                contours[int(roi.ReferencedROINumber)].append(_contour(contour))
        return [(names[number], drawn) for number, drawn in contours.items()]


def _contour(contour: Dataset) -> tuple[str, np.ndarray]:
    """Geometric type and points ``(n, 3)`` of one contour; an open one whose ends meet is closed."""
    points = _numbers(contour).reshape(-1, 3)
    if not np.isfinite(points).all():
        msg = "a contour has a point that is not finite"
        raise ValueError(msg)
    stated = contour.get(_GEOMETRIC_TYPE)  # by tag, which is several times quicker than by name
    kind = str((stated and stated.value) or "CLOSED_PLANAR").strip().upper()
    if kind == "OPEN_PLANAR" and len(points) > 3 and np.abs(points[0] - points[-1]).max() <= _ENDS_MEET_MM:
        kind = "CLOSED_PLANAR"
    return kind, points


def _numbers(contour: Dataset) -> np.ndarray:
    """Coordinates of a contour. Text is converted at once: pydicom makes an object of each of millions of numbers."""
    from pydicom.dataelem import RawDataElement

    stored = contour.get_item(_CONTOUR_DATA) if _CONTOUR_DATA in contour else None
    if isinstance(stored, RawDataElement) and isinstance(stored.value, bytes):
        return np.array(stored.value.strip(b"\0 ").split(b"\\") if stored.value else [], float)
    return np.array(contour.get("ContourData") or [], float)


def _region(contours: list[tuple[str, np.ndarray]], like: Geometry) -> Region:
    """Region of the closed contours; points have no extent and lines no inside."""
    closed = [points for kind, points in contours if kind in _CLOSED and len(points) >= 3]
    kinds = {kind for kind, _ in contours}
    lines = sorted(kinds - {*_CLOSED, "POINT"})
    problem = None
    if lines:
        problem = f"has contours of type {', '.join(lines)}, which enclose no area; draw closed contours"
    elif not closed and "POINT" in kinds:
        problem = "is a point, not an area; draw closed contours, or leave it out of `rois`"
    draw = partial(rasterize, closed, like, xor=_XOR in kinds)
    return Region(partial(_drawn, closed, like, draw), drawn=bool(closed), problem=problem)


def _drawn(contours: list[np.ndarray], like: Geometry, draw: Callable[[], np.ndarray]) -> np.ndarray:
    """Mask of a region; one too small to contain the centre of a voxel is the voxel around its own centre.

    Raises:
        DataError: no contour touches the image.
    """
    mask = draw()
    if mask.any() or not contours:
        return mask
    middles = like.world_to_edges(np.array([points.mean(axis=0) for points in contours]))
    inside = ((middles >= 0) & (middles < like.shape)).all(axis=1)
    if not inside.any():
        msg = "lies outside the image; pass the RTSTRUCT of this image"
        raise DataError(msg)
    mask[tuple(np.floor(middles[inside]).astype(int).T)] = 1
    return mask
