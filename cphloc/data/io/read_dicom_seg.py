"""Segments of a DICOM SEG on the grid of an image.

Every frame is placed by its own position, so frames may come in any order and leave out empty slices (DICOM PS3.3
C.8.20).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.data.io.dicom_slices import Slice, parsing, slices_of
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset

_OFF_GRID = 0.1
"""Voxels by which a pixel may miss the centre of a voxel: what numbers of 16 characters lose."""


def read_segments(path: str | Path, like: Geometry) -> dict[str, np.ndarray]:
    """Mask of every segment; a fractional one counts where it is at least one half.

    Args:
        path: the SEG file.
        like: grid of the image; the segments' pixels must be voxels of it, with axes in any order and direction.

    Returns:
        label of the segment -> ``(*like.shape)`` uint8; segments of one label are joined.

    Raises:
        DataError: damaged, not a SEG, or on another grid.
    """
    from pydicom import dcmread

    path = Path(path)
    with parsing(path):
        dataset = dcmread(path)
        if dataset.get("Modality") != "SEG":
            msg = f"{path}: is no DICOM SEG (modality {dataset.get('Modality')}); give the SEG file"
            raise DataError(msg)
        labels = {int(s.SegmentNumber): str(s.SegmentLabel) for s in dataset.SegmentSequence}
        planes = slices_of(path, dataset)
        frames = dataset.pixel_array.reshape(len(planes), dataset.Rows, dataset.Columns)
        masks = {label: np.zeros(like.shape, np.uint8) for label in labels.values()}
        for plane, frame in zip(planes, frames, strict=True):
            for number, inside in _segments_of(dataset, plane.frame, frame):
                masks[labels[number]][_voxels(path, plane, inside, like)] = 1
        return masks


def is_seg(path: Path) -> bool:
    """Whether the file is a DICOM SEG; false where it cannot be read."""
    from pydicom import dcmread

    try:
        with parsing(path):
            return dcmread(path, specific_tags=["Modality"], stop_before_pixels=True).get("Modality") == "SEG"
    except DataError:
        return False


def _segments_of(dataset: Dataset, number: int, frame: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Numbers and pixels ``(H, W)`` of the segments in one frame."""
    if dataset.SegmentationType == "LABELMAP":
        return [(int(value), frame == value) for value in np.unique(frame[frame > 0])]
    groups = (dataset.PerFrameFunctionalGroupsSequence[number], *dataset.get("SharedFunctionalGroupsSequence", ()))
    item = next(g.SegmentIdentificationSequence[0] for g in groups if "SegmentIdentificationSequence" in g)
    most = int(dataset.MaximumFractionalValue) if dataset.SegmentationType == "FRACTIONAL" else 1
    return [(int(item.ReferencedSegmentNumber), frame >= most / 2)]


def _voxels(path: Path, plane: Slice, inside: np.ndarray, like: Geometry) -> tuple[np.ndarray, ...]:
    """Indices into the image of the pixels that are inside."""
    pixels = np.argwhere(inside)
    if like.dims == 2 or plane.position is None:
        if inside.shape != like.shape:
            msg = f"{path}: its frames of {inside.shape} pixels are no parts of an image of {like.shape}"
            raise DataError(f"{msg}; give the SEG of this image")
        return tuple(pixels.T)
    steps = plane.orientation[::-1] * np.reshape(plane.spacing_mm, (2, 1))
    grid = np.concatenate([plane.position[None], plane.position + steps, plane.position + pixels @ steps])
    exact = like.world_to_edges(grid) - 0.5
    index = np.rint(exact).astype(int)
    one_voxel = np.abs(index[1:3] - index[0]).sum(axis=1).tolist() == [1, 1]
    outside = ((index[3:] < 0) | (index[3:] >= like.shape)).any()
    if not one_voxel or np.abs(exact - index).max() > _OFF_GRID or outside:
        msg = f"{path}: pixels of frame {plane.frame + 1} are no voxels of its image; put it onto the image's grid"
        raise DataError(msg)
    return tuple(index[3:].T)
