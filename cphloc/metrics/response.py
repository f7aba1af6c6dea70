"""Measures of treatment response: longest diameter, RECIST category and volume doubling time.

Diameters are axial: measured in the patient's axial planes, whatever the order and direction in which the voxels are
stored and whatever the orientation of the scan.

Sources: RECIST 1.1 (Eisenhauer et al., 2009) for non-nodal target lesions; Schwartz, 1961, for the doubling time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import pdist, squareform

from cphloc.errors import InputError
from cphloc.metrics.segmentation import connected_components, volume_ml
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import reoriented

Grid = Geometry | tuple[float, ...]
"""Grid of a mask: its geometry, or the voxel size in mm per axis of a mask whose last two axes are axial planes."""

Category = Literal["CR", "PR", "SD", "PD"]
"""Complete response, partial response, stable disease, progressive disease."""

OBLIQUE = 1e-3
"""Largest deviation of a direction cosine, 0.06 degrees, up to which a grid counts as parallel to the axial planes."""

TARGET_LESIONS = 5
"""Largest number of target lesions in RECIST 1.1."""


@dataclass(frozen=True)
class Visit:
    """Measurements of one scan of a patient under treatment, compared with the earlier scans; result of `follow_up`.

    Args:
        days: day of the scan.
        volume_ml: total volume of the segmented lesions.
        diameters_mm: sum of the longest axial diameters of the five largest lesions.
        category: RECIST 1.1 category; ``None`` for the first scan, and where that has no lesion.
        doubling_time_days: doubling time of the volume since the previous scan; NaN for the first scan, or if either
            volume is 0.
    """

    days: float
    volume_ml: float
    diameters_mm: float
    category: Category | None = None
    doubling_time_days: float = math.nan


def longest_diameter_mm(mask: np.ndarray, grid: Grid) -> float:
    """Compute the longest axial diameter of a mask: the largest distance between two voxels of one axial plane.

    The diameter is the distance between the voxel centres plus the size of one voxel in that direction; 0 for an empty
    mask. A mask on a grid that is oblique to the patient's axes is resampled to axial planes first (nearest neighbour,
    cubes of the finest voxel size). A 2-D mask is a single plane.

    Args:
        mask: ``(D, H, W)`` or ``(H, W)``, foreground where not 0.
        grid: geometry of the mask, or its voxel size.

    Raises:
        InputError: the mask has fewer than two axes, or the grid another number of axes.

    >>> longest_diameter_mm(np.ones((2, 1, 5), bool), (5.0, 1.0, 2.0))
    10.0
    """
    mask = np.asarray(mask)
    if mask.ndim < 2 or _axes(grid) != mask.ndim:
        msg = (
            f"a diameter needs a 2-D or 3-D mask and one spacing per axis, got shape {mask.shape} and "
            f"{_axes(grid)} axes: {grid}"
        )
        raise InputError(msg)
    planes, spacing_mm = _axial(mask != 0, grid)
    in_plane_mm = np.asarray(spacing_mm[-2:], float)
    stack = planes.reshape(-1, *planes.shape[-2:])
    return max((_diameter_mm(p, in_plane_mm) for p in stack if p.any()), default=0.0)


def sum_of_diameters_mm(mask: np.ndarray, grid: Grid, lesions: int = TARGET_LESIONS) -> float:
    """Sum the longest axial diameters of the largest lesions.

    A lesion is a connected component of the foreground; voxels that touch by a face, edge or corner are connected.

    Args:
        mask: ``(D, H, W)`` or ``(H, W)``, foreground where not 0.
        grid: geometry of the mask, or its voxel size.
        lesions: number of lesions to include, largest volume first.

    >>> sum_of_diameters_mm(np.array([[1, 1, 0, 1]]), (1.0, 1.0))
    3.0
    """
    labels, count = connected_components(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    windows = ndimage.find_objects(labels)
    largest = np.argsort(-sizes, kind="stable")[:lesions]
    return float(sum(longest_diameter_mm(labels[windows[k]] == k + 1, _cropped(grid, windows[k])) for k in largest))


def recist(sums_mm: Sequence[float], new_lesion: bool = False) -> Category:
    """Compute the RECIST 1.1 category of the last scan.

    - PD: the sum is at least 20 % and 5 mm larger than the smallest earlier sum (nadir), or a new lesion appeared.
    - CR: the sum is 0.
    - PR: the sum is at least 30 % smaller than at baseline.
    - SD: none of these.

    Args:
        sums_mm: sum of diameters of each scan in order of time, baseline first.
        new_lesion: whether a new lesion appeared in the last scan.

    Raises:
        InputError: fewer than two scans, or no measurable disease at baseline.

    >>> recist([10, 7, 8.5])  # 21 % over the nadir, but 1.5 mm
    'SD'
    """
    if len(sums_mm) < 2 or not sums_mm[0] > 0 or min(sums_mm) < 0:
        msg = f"RECIST needs a positive sum of diameters at baseline and at least one later sum, got {list(sums_mm)}"
        raise InputError(msg)
    baseline, nadir, now = sums_mm[0], min(sums_mm[:-1]), sums_mm[-1]
    rounding = 1e-9 * baseline
    if new_lesion or (now >= 1.2 * nadir - rounding and now - nadir >= 5 - rounding):
        return "PD"
    if now == 0:
        return "CR"
    return "PR" if now <= 0.7 * baseline + rounding else "SD"


def doubling_time(volume_before: float, volume_after: float, interval: float) -> float:
    """Compute the volume doubling time t ln 2 / ln(V2 / V1), in the unit of ``interval``.

    Infinite if the volume did not change; if it shrank, the halving time as a negative number.

    Args:
        volume_before: volume V1 of the earlier scan, positive.
        volume_after: volume V2 of the later scan, positive, in the same unit.
        interval: time t between the scans, positive.

    Raises:
        InputError: a volume or interval is not positive.

    >>> round(doubling_time(10**3, 12**3, 365), 2)
    462.55
    """
    if not (volume_before > 0 and volume_after > 0 and interval > 0):
        msg = (
            f"the doubling time needs positive volumes and a positive interval, got volumes {volume_before} and "
            f"{volume_after} and interval {interval}"
        )
        raise InputError(msg)
    growth = math.log(volume_after / volume_before)
    return interval * math.log(2) / growth if growth else math.inf


def follow_up(
    masks: Sequence[np.ndarray],
    grids: Sequence[Grid],
    days: Sequence[float],
    new_lesion: bool = False,
) -> list[Visit]:
    """Measure the lesions of one patient in each of several scans over time; the scans may have different grids.

    Lesions are not matched between scans: the diameters of the five largest of each scan are summed. Check the result
    by eye if a lesion has split or merged.

    Args:
        masks: ``(D, H, W)`` bool mask of each scan, in order of time.
        grids: geometry of each mask, or its voxel size.
        days: day of each scan, strictly increasing.
        new_lesion: whether a new lesion appeared in the last scan.

    Returns:
        the measurements of each scan.

    Raises:
        InputError: fewer than two scans, or days that do not increase.

    >>> before, after = np.ones((10, 10, 10), bool), np.ones((10, 10, 20), bool)
    >>> follow_up([before, after], [(1.0, 1.0, 1.0)] * 2, days=[0, 90])[-1].doubling_time_days
    90.0
    """
    if len(masks) < 2 or any(later <= earlier for earlier, later in pairwise(days)):
        msg = f"a follow-up needs at least two scans on increasing days, got {len(masks)} scans on days {list(days)}"
        raise InputError(msg)
    pairs = list(zip(masks, grids, strict=True))
    volumes = [volume_ml(np.asarray(mask) != 0, _spacing_mm(grid)) for mask, grid in pairs]
    sums = [sum_of_diameters_mm(mask, grid) for mask, grid in pairs]
    visits = [Visit(days[0], volumes[0], sums[0])]
    for k in range(1, len(masks)):
        category = recist(sums[: k + 1], new_lesion and k == len(masks) - 1) if sums[0] > 0 else None
        defined = min(volumes[k - 1 : k + 1]) > 0
        doubling = doubling_time(volumes[k - 1], volumes[k], days[k] - days[k - 1]) if defined else math.nan
        visits.append(Visit(days[k], volumes[k], sums[k], category, doubling))
    return visits


def _spacing_mm(grid: Grid) -> tuple[float, ...]:
    return grid.spacing_mm if isinstance(grid, Geometry) else tuple(grid)


def _axes(grid: Grid) -> int:
    return len(_spacing_mm(grid))


def _cropped(grid: Grid, window: tuple[slice, ...]) -> Grid:
    """Grid of the part ``window`` of a mask."""
    if not isinstance(grid, Geometry):
        return grid
    return grid.crop(tuple(s.start for s in window), tuple(s.stop - s.start for s in window))


def _axial(mask: np.ndarray, grid: Grid) -> tuple[np.ndarray, tuple[float, ...]]:
    """Reorient or, from an oblique grid, resample a mask to axial planes; return it with its voxel size."""
    if not isinstance(grid, Geometry):
        return mask, tuple(grid)
    order, flip = grid.canonical()
    mask, grid = reoriented(mask, order, flip), grid.reoriented(order, flip)
    if grid.dims == 2 or np.allclose(grid.direction, np.eye(3)[::-1], atol=OBLIQUE) or not mask.any():
        return mask, grid.spacing_mm
    (window,) = ndimage.find_objects(mask.astype(np.uint8))
    mask, grid = mask[window], grid.crop(tuple(s.start for s in window), tuple(s.stop - s.start for s in window))
    step = min(grid.spacing_mm)
    low, high = np.split(grid.boxes_to_world(np.array([[0, 0, 0, *grid.shape]]))[0], 2)
    shape = tuple(int(n) for n in np.ceil((high - low) / step)[::-1])
    # world = low + step (index + 1/2) in order x, y, z; the array order is z, y, x
    to_index = grid.direction.T[:, ::-1] * step / np.asarray(grid.spacing_mm)[:, None]
    first = grid.world_to_edges(low + step / 2) - 0.5
    offset: Any = first  # the stub of scipy allows a single number only
    planes = ndimage.affine_transform(mask.astype(np.uint8), to_index, offset, shape, order=0)
    return planes != 0, (step,) * 3


def _diameter_mm(plane: np.ndarray, spacing_mm: np.ndarray) -> float:
    """Longest diameter of one slice; only the first and last voxels of its rows can be ends of it."""
    rows = np.flatnonzero(plane.any(axis=1))
    first = plane[rows].argmax(axis=1)
    last = plane.shape[1] - 1 - plane[rows, ::-1].argmax(axis=1)
    ends = np.unique(np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)]), axis=0)
    if len(ends) == 1:
        return float(spacing_mm.max())
    distances = squareform(pdist(ends * spacing_mm))
    one, other = np.unravel_index(distances.argmax(), distances.shape)
    direction = np.abs(ends[one] - ends[other]) * spacing_mm / distances.max()
    return float(distances.max() + np.linalg.norm(direction * spacing_mm))
