"""The 3-D results of a batch, for the viewer of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cphloc.data.io.read import read_volume
from cphloc.errors import CphlocError, DataError
from cphloc.inference.localization import SHOWN_SCORE
from cphloc.inference.viewer import scene
from cphloc.structures.geometry import Geometry

MOST_CASES = 12
"""Most cases that a report shows in 3-D: each takes some megabytes of the page."""


def scenes_of(
    rows: Sequence[Mapping[str, Any]], spacing_mm: Sequence[float] | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Read images and results of the first `MOST_CASES` 3-D cases.

    Args:
        rows: from `cphloc.inference.batch.predict_cases`.
        spacing_mm: voxel size of images that state none.

    Returns:
        values for `cphloc.inference.viewer.viewer_html`, and notes on cases that are not shown.
    """
    scenes, notes = [], []
    shown = [row for row in rows if is_3d(row)]
    for row in shown[:MOST_CASES]:
        try:
            scenes.append(_scene(row, spacing_mm))
        except CphlocError as error:
            notes.append(f"{row['case']} is not shown in 3-D: {error}")
    if len(shown) > MOST_CASES:
        notes.append(f"{len(shown) - MOST_CASES} further cases are not shown in 3-D; write a report of fewer cases")
    return scenes, notes


def is_3d(row: Mapping[str, Any]) -> bool:
    """Return whether a row is of a 3-D image with a mask, boxes or attention."""
    if row["status"] == "failed":
        return False
    masks = any(file.endswith("_mask.nii.gz") for file in row.get("files", ()))
    return masks or any(len(box.get("voxels", ())) == 6 for box in row.get("boxes", ()))


def _scene(row: Mapping[str, Any], spacing_mm: Sequence[float] | None) -> dict[str, Any]:
    source = row["input"]
    first = next(iter(source.values())) if isinstance(source, Mapping) else source
    scan = read_volume(str(first), spacing_mm=spacing_mm, dims=3)
    boxes = None
    if "boxes" in row:
        least = row.get("thresholds", {}).get("boxes", SHOWN_SCORE)
        boxes = [(box["voxels"], box["number"]) for box in row["boxes"] if box["score"] >= least]
    mask, attention = (_map(row, part, scan.geometry) for part in ("mask", "attention"))
    classes = {int(number): name for number, name in row.get("classes", {}).items()}
    mask = None if mask is None else mask.astype(np.uint8)
    return scene(row["case"], scan.array[0], scan.geometry, mask, attention, boxes, classes, scan.window)


def _map(row: Mapping[str, Any], part: str, geometry: Geometry) -> np.ndarray | None:
    """Read the mask or the attention of a case; ``None`` where it has none."""
    file = next((file for file in row["files"] if file.endswith(f"_{part}.nii.gz")), None)
    if file is None:
        return None
    volume = read_volume(file, dims=3)
    if not volume.geometry.same_grid(geometry):
        msg = f"{file}: is not on the grid of the image; predict the case again with --redo"
        raise DataError(msg)
    return volume.array[0]
