"""Remove connected components of masks by size: all but the largest, or those below a physical size.

A component is a set of voxels of one class that touch by a face, edge or corner, as in the lesion-wise metrics.
Removed voxels become background.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as connected_nodes

from cphloc.metrics.segmentation import bounding_box, connected_components
from cphloc.structures.geometry import Geometry
from cphloc.structures.options import Options

VOXELS_AT_ONCE = 1 << 25
"""Largest number of voxels that are labelled at once; labels take 4 bytes each."""


def filter_components(
    mask: np.ndarray, geometry: Geometry, classes: Mapping[int, str], options: Options
) -> tuple[np.ndarray, list[str]]:
    """Remove the components that ``options`` do not keep, class by class.

    A large mask is labelled in slabs, so that the memory stays below about ``5 VOXELS_AT_ONCE`` bytes and a copy of
    the mask. Components of equal, largest size are all kept: the result does not depend on how voxels are stored.

    Args:
        mask: ``(*S)`` class of each voxel, 0 for background.
        geometry: its grid, which gives the size of a voxel.
        classes: number 1..K -> name.
        options: ``largest`` and ``min_size`` are applied, the largest first.

    Returns:
        the mask, the same object if nothing was removed; and remarks: sizes that could not be applied.

    >>> grid = Geometry.regular((1, 6))
    >>> mask = np.array([[1, 1, 0, 1, 0, 2]], np.uint8)
    >>> filter_components(mask, grid, {1: "a", 2: "b"}, Options(largest=["a"], min_size={"b": 5.0}))[0].tolist()
    [[1, 1, 0, 0, 0, 0]]
    """
    remarks, kept = [], mask
    for number, name in classes.items():
        voxels = 0.0
        if (least := options.min_size.get(name)) is not None:
            if geometry.unit == options.unit:
                voxels = least / geometry.voxel_volume
            else:
                remarks.append(f"the least size of {name} is in {options.unit}, the image in {geometry.unit}: not used")
        if voxels or name in options.largest:
            kept = _filtered(kept, number, name in options.largest, voxels)
    return kept, remarks


def keeps(sizes: np.ndarray, largest: bool, least: float) -> np.ndarray:
    """Return which components are kept.

    Args:
        sizes: ``(n,)`` voxels of each component.
        largest: whether only the largest is kept; those of equal size all are.
        least: smallest number of voxels.

    Returns:
        ``(n,)`` bool.

    >>> keeps(np.array([5, 2, 5]), largest=True, least=0).tolist()
    [True, False, True]
    """
    # Rounded: the size of a voxel in mm3 is no exact number.
    kept = sizes >= least * (1 - 1e-9)
    return kept & (sizes == sizes.max(initial=0)) if largest else kept


def _filtered(mask: np.ndarray, number: int, largest: bool, least: float) -> np.ndarray:
    """Remove the components of one class that are not kept; returns a copy if there are any."""
    window = bounding_box(mask == number)
    inside = mask[window]
    if not inside.size:
        return mask
    slabs = list(_slabs(inside.shape))
    nodes, sizes = _merged(inside, number, slabs)
    kept = keeps(sizes, largest, least)
    if kept.all():
        return mask
    result = mask.copy()
    target, first = result[window], 0
    for slab in slabs:
        labels, count = connected_components(inside[slab] == number)
        removed = np.append(False, ~kept[nodes[first : first + count]])
        target[slab][removed[labels]] = 0
        first += count
    return result


def _slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of rows along the first axis, each of at most `VOXELS_AT_ONCE` voxels."""
    rows = max(1, VOXELS_AT_ONCE // max(1, int(np.prod(shape[1:]))))
    yield from (slice(first, min(first + rows, shape[0])) for first in range(0, shape[0], rows))


def _merged(inside: np.ndarray, number: int, slabs: list[slice]) -> tuple[np.ndarray, np.ndarray]:
    """Label each slab and join the components that touch across a border.

    Returns:
        ``(parts,)`` number of the component from 0 of each component of a slab, in order; and ``(n,)`` voxels of each
        component.
    """
    counts, pairs, before, first = [], [np.zeros((0, 2), int)], None, 0
    for slab in slabs:
        labels, count = connected_components(inside[slab] == number)
        counts.append(np.bincount(labels.ravel(), minlength=count + 1)[1:])
        if before is not None:
            pairs.append(_touching(before, np.where(labels[0] > 0, labels[0] + first, 0)))
        before = np.where(labels[-1] > 0, labels[-1] + first, 0)
        first += count
    parts = np.concatenate(counts)
    edges = np.unique(np.concatenate(pairs), axis=0) - 1
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(parts), len(parts)))
    total, nodes = connected_nodes(graph, directed=False)
    return nodes, np.bincount(nodes, weights=parts, minlength=total).astype(int)


def _touching(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Pairs ``(n, 2)`` of labels of two neighbouring rows that touch by a face, edge or corner."""
    found = []
    padded = np.pad(above, 1)
    for shift in np.ndindex(*(3,) * below.ndim):
        neighbour = padded[tuple(slice(s, s + n) for s, n in zip(shift, below.shape, strict=True))]
        both = (neighbour > 0) & (below > 0)
        found.append(np.unique(np.stack([neighbour[both], below[both]], axis=1), axis=0))
    return np.concatenate(found)
