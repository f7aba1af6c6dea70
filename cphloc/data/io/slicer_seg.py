"""Read segmentations of 3D Slicer (``.seg.nrrd``): NRRD files whose header names the segments.

Several segments may share a layer, each with its own value, and overlapping segments lie in separate layers; values
are numbered anew when a segment is drawn again, so only the header says which value is which segment
(https://slicer.readthedocs.io, "Segmentation file (.seg.nrrd)").
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from cphloc.data.io.masks import onto_grid
from cphloc.data.io.read_nrrd import read_nrrd
from cphloc.data.io.regions import Region
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry

_KEY = re.compile(rb"^Segment(\d+)_(Name|ID|LabelValue|Layer):=([^\r\n]*)", re.MULTILINE)
_LONGEST_HEADER = 1 << 20


def is_slicer_seg(path: Path) -> bool:
    """Return True for an NRRD file whose header names segments."""
    return path.name.lower().endswith((".nrrd", ".nhdr")) and path.is_file() and bool(_segments(path))


def read_slicer_seg(path: Path, like: Geometry) -> dict[str, Region]:
    """Read every segment as a region; one without a voxel was not drawn.

    Args:
        path: the file.
        like: grid of the image, on which the segmentation lies or of which it is a crop.

    Raises:
        DataError: the file is damaged or on another grid, a segment has no name, layer or value, two have the same,
            or a value belongs to no segment.
    """
    volume = read_nrrd(path)
    regions: dict[str, Region] = {}
    listed: list[set[int]] = [set() for _ in range(volume.channels)]
    for number, facts in sorted(_segments(path).items()):
        name = facts.get("Name") or facts.get("ID", "")
        if not name or name in regions:
            problem = f"has two segments named '{name}'" if name else f"has no name for segment {number}"
            msg = f"{path}: {problem}; give every segment a name of its own"
            raise DataError(msg)
        try:
            layer = int(facts.get("Layer", number if volume.channels > 1 else 0))
            value = int(facts.get("LabelValue", 1))
        except ValueError as error:
            msg = f"{path}: segment '{name}' has a layer or label value that is no number; save it again in 3D Slicer"
            raise DataError(msg) from error
        if not 0 <= layer < volume.channels:
            msg = f"{path}: segment '{name}' is in layer {layer} but the file has {volume.channels}; save it again"
            raise DataError(msg)
        listed[layer].add(value)
        inside = volume.array[layer] == value
        draw = partial(onto_grid, inside.astype(np.uint8), volume.geometry, like, str(path), cropped=True)
        regions[name] = Region(draw, drawn=bool(inside.any()))
    for layer, values in enumerate(listed):
        if unnamed := sorted(set(np.unique(volume.array[layer]).tolist()) - values - {0}):
            msg = f"{path}: no segment has the value {unnamed[0]:g} of layer {layer}; save it again in 3D Slicer"
            raise DataError(msg)
    return regions


def _segments(path: Path) -> dict[int, dict[str, str]]:
    """Number of each segment -> its entries in the header."""
    with path.open("rb") as file:
        start = file.read(_LONGEST_HEADER)
    end = re.search(rb"\r?\n\r?\n", start)
    segments: dict[int, dict[str, str]] = {}
    for number, key, value in _KEY.findall(start[: end.start()] if end else start):
        text = value.decode("utf-8", "replace").replace("\\n", "\n").strip()
        segments.setdefault(int(number), {})[key.decode()] = text
    return segments
