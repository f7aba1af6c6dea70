"""Read the segments of a DICOM SEG as masks on the grid of an image.

Each frame has its own position, so frames may be in any order and empty slices may be omitted (DICOM PS3.3 C.8.20).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.data.io.dicom_file import check_frame, check_pixels, read_dicom_file
from cphloc.data.io.dicom_origin import check_origin
from cphloc.data.io.dicom_slices import Slice, parsing, slices_of
from cphloc.data.io.regions import Region
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset

_OFF_GRID = 0.1
"""Tolerance in voxels between pixel and voxel centre; DICOM rounds positions to 16 characters."""
_THICKER = 1.5
"""Distance of the slices of a SEG, in slices of the image, from which the image has slices between them."""


def read_segments(path: str | Path, like: Geometry) -> dict[str, np.ndarray]:
    """Read the mask of every segment; fractional segments are thresholded at one half.

    Args:
        path: the SEG file.
        like: grid of the image; every pixel of a segment must coincide with a voxel, axes may differ in order and
            direction.

    Returns:
        label of the segment -> binary mask ``(*like.shape)`` uint8; segments with the same label are merged.

    Raises:
        DataError: the file is damaged, not a DICOM SEG, or on another grid.
    """
    return {label: region.draw() for label, region in read_seg(path, like).items()}


def read_seg(path: str | Path, like: Geometry, images: Sequence[str] = ()) -> dict[str, Region]:
    """Read every segment as a region; one without a frame was not drawn. Its frames are decoded when it is drawn.

    Args:
        path: the SEG file.
        like: see `read_segments`.
        images: files or folders of the image that is annotated; where they are DICOM, the SEG must belong to it.

    Raises:
        DataError: the file is damaged, not a DICOM SEG, on another grid, or one of another image.
    """
    path = Path(path)
    with parsing(path):
        dataset = read_dicom_file(path, force=False)
        if dataset.get("Modality") != "SEG":
            msg = f"{path}: is not a DICOM SEG (modality {dataset.get('Modality')}); pass the SEG file"
            raise DataError(msg)
        check_origin(path, dataset, images)
        check_pixels(path, dataset)
        labels = {int(s.SegmentNumber): str(s.SegmentLabel).strip() for s in dataset.SegmentSequence}
        planes = slices_of(path, dataset)
        _check_distance(path, dataset, planes, like)
        frames: dict[str, list[tuple[Slice, int]]] = {label: [] for label in labels.values()}
        for plane in planes:
            for number in _numbers(path, dataset, plane.frame):
                if number not in labels:
                    msg = f"{path}: frame {plane.frame + 1} holds segment {number}, which SegmentSequence does not list"
                    raise DataError(f"{msg}; export it again")
                frames[labels[number]].append((plane, number))
        return {label: Region(partial(_drawn, path, dataset, of, like), bool(of)) for label, of in frames.items()}


def is_seg(path: Path) -> bool:
    """Return True for a DICOM SEG, False for other or unreadable files."""
    try:
        with parsing(path):
            return (
                read_dicom_file(path, force=False, specific_tags=["Modality"], stop_before_pixels=True).get("Modality")
                == "SEG"
            )
    except DataError:
        return False


def _check_distance(path: Path, dataset: Dataset, planes: Sequence[Slice], like: Geometry) -> None:
    """Raise an error for a SEG of thicker slices than the image, which would be empty in the slices between them."""
    first = planes[0].placement if planes else None
    if like.dims == 2 or first is None:
        return
    groups = (dataset.PerFrameFunctionalGroupsSequence[0], *dataset.get("SharedFunctionalGroupsSequence", ()))
    measures = next((g.PixelMeasuresSequence[0] for g in groups if "PixelMeasuresSequence" in g), dataset)
    stated, thickness = (abs(float(measures.get(tag) or 0)) for tag in ("SpacingBetweenSlices", "SliceThickness"))
    places = np.unique([plane.placement.position @ first.normal for plane in planes if plane.placement is not None])
    least = min((gap for gap in np.diff(places).tolist() if gap > _OFF_GRID * min(like.spacing_mm)), default=np.inf)
    if not stated and np.isclose(least, thickness, rtol=0.01):
        stated = thickness
    along = like.world_to_edges(np.stack([first.position, first.position + first.normal]))
    distance_mm, slices_per_mm = min(stated, least), float(np.abs(along[1] - along[0]).sum())
    if distance_mm * slices_per_mm >= _THICKER:
        times = distance_mm * slices_per_mm
        msg = f"{path}: its slices are {distance_mm:g} mm apart, {times:.3g} times as far as those of the image"
        raise DataError(f"{msg}; resample the SEG to it")


def _drawn(path: Path, dataset: Dataset, frames: Sequence[tuple[Slice, int]], like: Geometry) -> np.ndarray:
    """Mask of one segment from its frames, each with the number of the segment."""
    mask = np.zeros(like.shape, np.uint8)
    with parsing(path):
        for plane, number in frames:
            mask[_voxels(path, plane, _pixels(path, dataset, plane.frame, number), like)] = 1
    return mask


def _numbers(path: Path, dataset: Dataset, frame: int) -> list[int]:
    """Numbers of the segments in one frame."""
    if dataset.SegmentationType == "LABELMAP":
        return [number for number in np.unique(_frame(path, dataset, frame)).tolist() if number > 0]
    groups = (dataset.PerFrameFunctionalGroupsSequence[frame], *dataset.get("SharedFunctionalGroupsSequence", ()))
    item = next(g.SegmentIdentificationSequence[0] for g in groups if "SegmentIdentificationSequence" in g)
    return [int(item.ReferencedSegmentNumber)]


def _pixels(path: Path, dataset: Dataset, frame: int, number: int) -> np.ndarray:
    """Boolean mask ``(H, W)`` of a segment in one frame."""
    values = _frame(path, dataset, frame)
    if dataset.SegmentationType == "LABELMAP":
        return values == number
    most = int(dataset.MaximumFractionalValue) if dataset.SegmentationType == "FRACTIONAL" else 1
    return values >= most / 2


def _frame(path: Path, dataset: Dataset, frame: int) -> np.ndarray:
    """Stored values ``(H, W)`` of one frame."""
    from pydicom.pixels.utils import pixel_array

    check_frame(path, dataset, frame)
    return pixel_array(dataset, index=frame).reshape(dataset.Rows, dataset.Columns)


def _voxels(path: Path, plane: Slice, inside: np.ndarray, like: Geometry) -> tuple[np.ndarray, ...]:
    """Voxel indices in the image, one array per axis, of the pixels that are True in ``inside``."""
    pixels = np.argwhere(inside)
    placement = plane.placement
    if like.dims == 2 or placement is None:
        if inside.shape != like.shape:
            msg = f"{path}: its frames have {inside.shape} pixels but the image has {like.shape}"
            raise DataError(f"{msg}; pass the SEG of this image")
        return tuple(pixels.T)
    steps = placement.orientation[::-1] * np.reshape(placement.spacing_mm, (2, 1))
    position = placement.position
    grid = np.concatenate([position[None], position + steps, position + pixels @ steps])
    exact = like.world_to_edges(grid) - 0.5
    index = np.rint(exact).astype(int)
    one_voxel = np.abs(index[1:3] - index[0]).sum(axis=1).tolist() == [1, 1]
    outside = ((index[3:] < 0) | (index[3:] >= like.shape)).any()
    if not one_voxel or np.abs(exact - index).max() > _OFF_GRID or outside:
        msg = f"{path}: pixels of frame {plane.frame + 1} are off the grid of the image; resample the SEG to it"
        raise DataError(msg)
    return tuple(index[3:].T)
