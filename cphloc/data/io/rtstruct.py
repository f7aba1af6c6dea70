"""Read the contours of a DICOM RTSTRUCT and rasterize them into masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cphloc.data.io.dicom_slices import parsing
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry


def read_contours(path: str | Path) -> dict[str, list[np.ndarray]]:
    """Read the closed contours of every region of interest.

    Returns:
        name of the region -> its contours, each ``(n, 3)`` points in LPS mm; empty where it has no closed contour.

    Raises:
        DataError: the file is missing, damaged or not an RTSTRUCT, or two regions have the same name.
    """
    from pydicom import dcmread

    path = Path(path)
    if not path.is_file():
        msg = f"{path}: does not exist; pass the RTSTRUCT file"
        raise DataError(msg)
    with parsing(path):
        dataset = dcmread(path, force=True)
        if dataset.get("Modality") != "RTSTRUCT":
            msg = f"{path}: is not an RTSTRUCT (modality {dataset.get('Modality')}); pass the RTSTRUCT file"
            raise DataError(msg)
        names = {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.StructureSetROISequence}
        if len(set(names.values())) < len(names):
            msg = f"{path}: two regions have the same name among {sorted(names.values())}; rename one"
            raise DataError(msg)
        contours = {name: [] for name in names.values()}
        for roi in dataset.get("ROIContourSequence", []):
            for contour in roi.get("ContourSequence", []):
                if str(contour.ContourGeometricType).startswith("CLOSED"):
                    points = np.array(contour.ContourData, float).reshape(-1, 3)
                    contours[names[int(roi.ReferencedROINumber)]].append(points)
        return contours


def rasterize(contours: Sequence[np.ndarray], geometry: Geometry) -> np.ndarray:
    """Rasterize contours into a mask of the voxels whose centre is inside.

    Contours in one plane are combined by exclusive or, so a contour within another is a hole (DICOM PS3.3 C.8.8.6.3).
    Each slice of the image is filled from the nearest contour plane, if it is at most half the median plane distance
    away.

    Args:
        contours: closed contours, each ``(n, 3)`` points in LPS mm, parallel to the slices of ``geometry``.
        geometry: 3-D grid of the mask.

    Returns:
        ``(*geometry.shape)`` uint8, 1 inside.

    Raises:
        DataError: a contour is not parallel to the slices.

    >>> square = np.array([[0.5, 0.5, 2], [0.5, 3.5, 2], [3.5, 3.5, 2], [0.5, 0.5, 2], [3.5, 0.5, 2]])[[0, 1, 2, 4]]
    >>> rasterize([square], Geometry.regular((5, 5, 5))).sum(axis=(1, 2)).tolist()
    [0, 0, 9, 0, 0]
    """
    mask = np.zeros(geometry.shape, np.uint8)
    if not contours:
        return mask
    polygons = [geometry.world_to_edges(c) for c in contours]
    depth = np.array([p[:, 0].mean() - 0.5 for p in polygons])
    tilt = max(float(np.ptp(p[:, 0])) for p in polygons)
    if tilt > 0.5:
        msg = f"a contour crosses {tilt:.1f} slices of the image; contours must be parallel to its slices"
        raise DataError(msg)
    planes = np.unique(np.round(depth, 2))
    reach = float(np.median(np.diff(planes))) / 2 if len(planes) > 1 else 0.5
    for k in range(geometry.shape[0]):
        plane = planes[np.argmin(np.abs(planes - k))]
        if abs(plane - k) <= reach + 1e-3:
            inside = [p[:, 1:] for p, d in zip(polygons, depth, strict=True) if abs(d - plane) < 0.02]
            mask[k] = _fill(inside, geometry.shape[1], geometry.shape[2])
    return mask


def _fill(polygons: Sequence[np.ndarray], rows: int, columns: int) -> np.ndarray:
    """Fill polygons ``(n, 2)`` by the even-odd rule at pixel centres, as ``(rows, columns)`` uint8."""
    toggles = np.zeros((rows, columns + 1), int)
    centres = np.arange(rows) + 0.5
    for start in polygons:
        end = np.roll(start, -1, axis=0)
        edge, row = np.nonzero((start[:, :1] <= centres) != (end[:, :1] <= centres))
        share = (centres[row] - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
        column = start[edge, 1] + share * (end[edge, 1] - start[edge, 1])
        first_right = np.clip(np.ceil(column - 0.5), 0, columns).astype(int)
        np.add.at(toggles, (row, first_right), 1)
    return (np.cumsum(toggles, axis=1)[:, :-1] % 2).astype(np.uint8)
