"""Read the segments of a DICOM SEG as masks on the grid of an image.

Each frame has its own position, so frames may be in any order and empty slices may be omitted (DICOM PS3.3 C.8.20).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.data.io.dicom_origin import check_origin
from cphloc.data.io.dicom_slices import Slice, parsing, slices_of
from cphloc.data.io.regions import Region
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset

_OFF_GRID = 0.1
"""Tolerance in voxels between pixel and voxel centre; DICOM rounds positions to 16 characters."""


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
    """Read every segment as a region; one without a frame was not drawn.

    Args:
        path: the SEG file.
        like: see `read_segments`.
        images: files or folders of the image that is annotated; where they are DICOM, the SEG must belong to it.

    Raises:
        DataError: the file is damaged, not a DICOM SEG, on another grid, or one of another image.
    """
    from pydicom import dcmread

    path = Path(path)
    with parsing(path):
        dataset = dcmread(path)
        if dataset.get("Modality") != "SEG":
            msg = f"{path}: is not a DICOM SEG (modality {dataset.get('Modality')}); pass the SEG file"
            raise DataError(msg)
        check_origin(path, dataset, images)
        labels = {int(s.SegmentNumber): str(s.SegmentLabel).strip() for s in dataset.SegmentSequence}
        planes = slices_of(path, dataset)
        frames = dataset.pixel_array.reshape(len(planes), dataset.Rows, dataset.Columns)
        masks = {label: np.zeros(like.shape, np.uint8) for label in labels.values()}
        drawn = set()
        for plane, frame in zip(planes, frames, strict=True):
            for number, inside in _segments_of(dataset, plane.frame, frame):
                drawn.add(labels[number])
                masks[labels[number]][_voxels(path, plane, inside, like)] = 1
        return {label: Region(partial(np.asarray, mask), label in drawn) for label, mask in masks.items()}


def is_seg(path: Path) -> bool:
    """Return True for a DICOM SEG, False for other or unreadable files."""
    from pydicom import dcmread

    try:
        with parsing(path):
            return dcmread(path, specific_tags=["Modality"], stop_before_pixels=True).get("Modality") == "SEG"
    except DataError:
        return False


def _segments_of(dataset: Dataset, number: int, frame: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Pairs of segment number and boolean mask ``(H, W)`` of one frame."""
    if dataset.SegmentationType == "LABELMAP":
        return [(int(value), frame == value) for value in np.unique(frame[frame > 0])]
    groups = (dataset.PerFrameFunctionalGroupsSequence[number], *dataset.get("SharedFunctionalGroupsSequence", ()))
    item = next(g.SegmentIdentificationSequence[0] for g in groups if "SegmentIdentificationSequence" in g)
    most = int(dataset.MaximumFractionalValue) if dataset.SegmentationType == "FRACTIONAL" else 1
    return [(int(item.ReferencedSegmentNumber), frame >= most / 2)]


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
