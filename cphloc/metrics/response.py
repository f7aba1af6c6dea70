"""Measures of treatment response: longest diameter, RECIST category, doubling time.

Sources: RECIST 1.1 (Eisenhauer et al., 2009) for non-nodal target lesions; Schwartz, 1961, for the doubling time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import pdist, squareform

from cphloc.errors import InputError
from cphloc.metrics.segmentation import connected_components, volume_ml

Category = Literal["CR", "PR", "SD", "PD"]
"""Complete response, partial response, stable disease, progressive disease."""

TARGET_LESIONS = 5
"""RECIST 1.1 measures at most five."""


@dataclass(frozen=True)
class Visit:
    """One scan of a patient under treatment, beside those before it; made by `follow_up`.

    Args:
        days: since the first scan.
        volume_ml: of everything segmented.
        diameters_mm: sum of the longest diameters of the five largest lesions.
        category: RECIST 1.1; ``None`` for the first scan.
        doubling_time_days: of the volume since the scan before; NaN for the first scan or where nothing is there.
    """

    days: float
    volume_ml: float
    diameters_mm: float
    category: Category | None = None
    doubling_time_days: float = math.nan


def longest_diameter_mm(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> float:
    """Longest in-plane diameter of a bool mask: over all slices, the greatest distance between two voxels.

    A plane is the last two axes, so a 2-D mask is one slice. The distance runs between voxel centres, plus the size of
    one voxel in the direction of the diameter; 0 for an empty mask.

    Args:
        mask: ``(D, H, W)`` or ``(H, W)``.
        spacing_mm: voxel size per axis, array order.

    >>> longest_diameter_mm(np.ones((2, 1, 5), bool), (5.0, 1.0, 2.0))
    10.0
    """
    mask = np.asarray(mask)
    if mask.ndim < 2 or len(spacing_mm) != mask.ndim:
        msg = f"a diameter needs a 2-D or 3-D mask and a spacing per axis, got {mask.shape} and {tuple(spacing_mm)}"
        raise InputError(msg)
    in_plane_mm = np.asarray(spacing_mm[-2:], float)
    planes = mask.reshape(-1, *mask.shape[-2:]) != 0
    return max((_diameter_mm(p, in_plane_mm) for p in planes if p.any()), default=0.0)


def sum_of_diameters_mm(mask: np.ndarray, spacing_mm: tuple[float, ...], lesions: int = TARGET_LESIONS) -> float:
    """Sum of the longest diameters of the largest lesions (connected by faces, edges or corners).

    >>> sum_of_diameters_mm(np.array([[1, 1, 0, 1]]), (1.0, 1.0))
    3.0
    """
    labels, count = connected_components(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    windows = ndimage.find_objects(labels)
    largest = np.argsort(-sizes, kind="stable")[:lesions]
    return float(sum(longest_diameter_mm(labels[windows[k]] == k + 1, spacing_mm) for k in largest))


def recist(sums_mm: Sequence[float], new_lesion: bool = False) -> Category:
    """RECIST 1.1 category of the last scan, from the sum of diameters of every scan so far, baseline first.

    CR where nothing is left; PD where the sum grew by at least 20 % and 5 mm over the smallest sum before (the nadir,
    which may be the baseline), or a new lesion appeared; PR where it shrank by at least 30 % from baseline; else SD.

    Raises:
        InputError: fewer than two scans, or no measurable disease at baseline.

    >>> recist([10, 7, 8.5])  # 21 % over the nadir, but 1.5 mm
    'SD'
    """
    if len(sums_mm) < 2 or not sums_mm[0] > 0 or min(sums_mm) < 0:
        msg = f"RECIST compares a positive baseline with at least one later sum of diameters, got {list(sums_mm)}"
        raise InputError(msg)
    baseline, nadir, now = sums_mm[0], min(sums_mm[:-1]), sums_mm[-1]
    rounding = 1e-9 * baseline
    if new_lesion or (now >= 1.2 * nadir - rounding and now - nadir >= 5 - rounding):
        return "PD"
    if now == 0:
        return "CR"
    return "PR" if now <= 0.7 * baseline + rounding else "SD"


def doubling_time(volume_before: float, volume_after: float, interval: float) -> float:
    """Volume doubling time in the unit of ``interval``: t ln 2 / ln(V2 / V1).

    Infinite where the volume did not change, negative where it shrank (the time in which it halves).

    Raises:
        InputError: a volume or interval is not positive.

    >>> round(doubling_time(10**3, 12**3, 365), 2)
    462.55
    """
    if not (volume_before > 0 and volume_after > 0 and interval > 0):
        msg = f"doubling time needs positive volumes and interval, got {volume_before}, {volume_after}, {interval}"
        raise InputError(msg)
    growth = math.log(volume_after / volume_before)
    return interval * math.log(2) / growth if growth else math.inf


def follow_up(
    masks: Sequence[np.ndarray],
    spacings_mm: Sequence[tuple[float, ...]],
    days: Sequence[float],
    new_lesion: bool = False,
) -> list[Visit]:
    """Measure the lesion masks of one patient over time; the scans need not share a grid.

    Lesions are not followed one by one: the five largest of each scan are summed, so say so where a lesion has split or
    merged.

    Args:
        masks: ``(D, H, W)`` bool, first scan first.
        spacings_mm: voxel size per axis and scan, array order.
        days: of each scan, rising.
        new_lesion: whether a lesion appeared in the last scan that was not there before.

    Raises:
        InputError: fewer than two scans, days that do not rise, or nothing to measure in the first scan.

    >>> before, after = np.ones((10, 10, 10), bool), np.ones((10, 10, 20), bool)
    >>> follow_up([before, after], [(1.0, 1.0, 1.0)] * 2, days=[0, 90])[-1].doubling_time_days
    90.0
    """
    if len(masks) < 2 or any(later <= earlier for earlier, later in pairwise(days)):
        msg = f"a follow-up needs at least two scans on rising days, got {len(masks)} scans on days {list(days)}"
        raise InputError(msg)
    volumes = [volume_ml(np.asarray(mask) != 0, spacing) for mask, spacing in zip(masks, spacings_mm, strict=True)]
    sums = [sum_of_diameters_mm(mask, spacing) for mask, spacing in zip(masks, spacings_mm, strict=True)]
    visits = [Visit(days[0], volumes[0], sums[0])]
    for k in range(1, len(masks)):
        category = recist(sums[: k + 1], new_lesion and k == len(masks) - 1)
        both = min(volumes[k - 1 : k + 1]) > 0
        doubling = doubling_time(volumes[k - 1], volumes[k], days[k] - days[k - 1]) if both else math.nan
        visits.append(Visit(days[k], volumes[k], sums[k], category, doubling))
    return visits


def _diameter_mm(plane: np.ndarray, spacing_mm: np.ndarray) -> float:
    """Longest diameter of one slice; its ends are the first or last voxel of their rows."""
    rows = np.flatnonzero(plane.any(axis=1))
    first = plane[rows].argmax(axis=1)
    last = plane.shape[1] - 1 - plane[rows, ::-1].argmax(axis=1)
    ends = np.unique(np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)]), axis=0)
    if len(ends) == 1:
        return float(spacing_mm.max())
    apart = squareform(pdist(ends * spacing_mm))
    one, other = np.unravel_index(apart.argmax(), apart.shape)
    direction = np.abs(ends[one] - ends[other]) * spacing_mm / apart.max()
    return float(apart.max() + np.linalg.norm(direction * spacing_mm))
