"""Join the channels of one image: convert each to its unit, and resample all to the grid of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cphloc.data.io.resample import resample
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.units import ScaledUnit
from cphloc.structures.volume import Volume

LEAST_COVERED = 0.5
"""Smallest share of the first channel's grid that each other channel must cover."""


def in_unit(volume: Volume, wanted: ScaledUnit | None, given: ScaledUnit | None = None) -> Volume:
    """Convert the values of an image to a unit, where its file or the user states one; else return it as it is.

    Args:
        volume: the image.
        wanted: unit to convert to; ``None`` and ``arbitrary`` leave the values as they are.
        given: unit that the user states, for a file that states none.

    Raises:
        DataError: the stated unit cannot be converted.
    """
    stated = volume.scan.unit
    if given is not None and stated is None:
        if wanted is None or given.unit != wanted.unit:
            need = "no unit is known for its channel; set data.units" if wanted is None else f"{wanted} is needed"
            msg = f"{volume.source}: is stated to be in {given}, but {need}"
            raise DataError(msg)
        return scaled(volume, wanted.factor / given.factor)
    if wanted is None or stated is None or wanted.unit == "arbitrary":
        return volume
    if stated != wanted.unit:
        msg = (
            f"{volume.source}: its values are in {stated} by its tags (modality {volume.modality}), but {wanted.unit} "
            "is needed; pass the image of this channel"
        )
        raise DataError(msg)
    return scaled(volume, wanted.factor)


def scaled(volume: Volume, factors: float | np.ndarray) -> Volume:
    """Multiply the values of an image by a factor, or one per channel, and its display window by the first."""
    each = np.broadcast_to(np.asarray(factors, np.float32), (volume.channels,))
    if (each == 1).all():
        return volume
    window = None if volume.window is None else (volume.window[0] * float(each[0]), volume.window[1] * float(each[0]))
    array = volume.array * each.reshape(-1, *(1,) * volume.dims)
    return replace(volume, array=array.astype(np.float32), window=window)


def stacked(volumes: Sequence[Volume]) -> Volume:
    """Join images to one with all their channels, resampled linearly to the grid of the first within the patient.

    What lies outside a channel gets the lowest value of that channel.

    Args:
        volumes: one or more images; their order is that of the channels.

    Raises:
        DataError: an image is in another frame of reference than the first, covers less than half of it, or has
            another grid and no position in the patient.
    """
    if not volumes:
        msg = "the list of channels is empty; pass one path per channel"
        raise DataError(msg)
    first = volumes[0]
    parts = [first.array, *(_onto(volume, first) for volume in volumes[1:])]
    notes = tuple(dict.fromkeys(note for volume in volumes for note in volume.notes))
    return replace(first, array=np.concatenate(parts), scan=replace(first.scan, unit=None), notes=notes)


def _onto(volume: Volume, first: Volume) -> np.ndarray:
    """The array ``(C, *S)`` of an image on the grid of the first channel."""
    frames = {v.scan.frame for v in (first, volume) if v.scan.frame is not None}
    patients = {v.scan.patient for v in (first, volume) if v.scan.patient is not None}
    for what, stated in (("frame of reference", frames), ("patient", patients)):
        if len(stated) > 1:
            msg = (
                f"{volume.source}: is of another {what} ({', '.join(sorted(stated))}) than the first channel "
                f"{first.source}; pass images of one scan, or register them first"
            )
            raise DataError(msg)
    own, target = volume.geometry, first.geometry
    if own.same_grid(target):
        return volume.array
    if "px" in (own.unit, target.unit) or own.dims != target.dims:
        msg = (
            f"{volume.source}: is on another grid ({_described(own)}) than the first channel {first.source} "
            f"({_described(target)}), and a file states no position; resample it onto the first"
        )
        raise DataError(msg)
    covered = _covered(own, target)
    if covered < LEAST_COVERED:
        msg = (
            f"{volume.source}: covers {100 * covered:.0f} % of the first channel {first.source}; pass images of the "
            "same region in one coordinate system"
        )
        raise DataError(msg)
    return np.stack([resample(channel[None], own, target, float(channel.min()))[0] for channel in volume.array])


def _covered(own: Geometry, target: Geometry) -> float:
    """Share of the voxels of ``target``, on a grid of at most 16 per axis, whose centres lie inside ``own``."""
    axes = [np.linspace(0.5, n - 0.5, min(n, 16)) for n in target.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    edges = own.world_to_edges(target.edges_to_world(points))
    return float(((edges >= 0) & (edges <= own.shape)).all(axis=-1).mean())


def _described(grid: Geometry) -> str:
    return f"{grid.shape} voxels of {tuple(round(s, 4) for s in grid.spacing_mm)} {grid.unit}"
