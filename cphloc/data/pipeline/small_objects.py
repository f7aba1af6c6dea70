"""Keep objects in a mask that is resampled to larger voxels: a small object may lie between the new voxels' centres."""

from __future__ import annotations

from typing import cast

import numpy as np

from cphloc.structures.annotation import IGNORE


def with_lost_objects(mask: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, int]:
    """Give every object of a mask that resampling has lost one voxel, the one that holds its middle.

    An object is a connected component of a class; it is lost where no voxel that it touches has its class. The only
    voxel of another class is not overwritten.

    Args:
        mask: ``(*S)`` class of each voxel before resampling.
        moved: ``(*S')`` the mask after resampling, over the same field of view.

    Returns:
        the mask with these voxels, and their number.

    >>> mask = np.zeros((9, 9), np.uint8)
    >>> mask[4, 4] = 1
    >>> found, lost = with_lost_objects(mask, np.zeros((3, 3), np.uint8))
    >>> found.tolist(), lost
    ([[0, 0, 0], [0, 1, 0], [0, 0, 0]], 1)
    """
    scale = np.array(moved.shape) / mask.shape
    if (scale >= 1).all():
        return moved, 0
    from scipy import ndimage

    found, lost = moved.copy(), 0
    for label in np.unique(mask):
        if label in (0, IGNORE):
            continue
        labelled = ndimage.label(mask == label, np.ones((3,) * mask.ndim))
        numbered, _ = cast("tuple[np.ndarray, int]", labelled)
        for number, box in enumerate(ndimage.find_objects(numbered), start=1):
            low = np.floor([edge.start for edge in box] * scale).astype(int)
            high = np.ceil([edge.stop for edge in box] * scale).astype(int)
            if (moved[tuple(map(slice, low, high))] == label).any():
                continue
            voxels = np.argwhere(numbered[box] == number)
            middle = voxels[np.abs(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()]
            place = tuple(((middle + [edge.start for edge in box] + 0.5) * scale).astype(int))
            if found[place] in (0, IGNORE) or (found == found[place]).sum() > 1:
                found[place] = label
                lost += 1
    return found, lost
