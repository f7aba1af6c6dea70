"""The sample of a 3-D entry, with its expected prediction, for the viewer on its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.data.io.read import read_volume
from cphloc.errors import CphlocError, DataError
from cphloc.inference.localization import SHOWN_SCORE
from cphloc.inference.viewer import scene
from cphloc.modeling.classes import model_classes
from cphloc.publishing.sample import ATTENTION_CELLS, EXPECTED_FILE, MASK_FILE, SAMPLE_FOLDER, read_expected
from cphloc.structures.merging import of_part
from cphloc.zoo.entries import Listing
from cphloc.zoo.entry import Entry
from cphloc.zoo.stored import stored_recipe


def sample_scene(listing: Listing) -> dict[str, Any] | None:
    """Return the sample of an entry as `cphloc.inference.viewer.scene` does; ``None`` for an entry without one.

    A sample that cannot be read, or is not of three dimensions, is none.
    """
    entry = listing.entry
    if entry.dims != 3 or f"{SAMPLE_FOLDER}/{EXPECTED_FILE}" not in entry.files:
        return None
    mask_file = f"{SAMPLE_FOLDER}/{MASK_FILE}"
    try:
        mask_path = listing.path(mask_file) if mask_file in entry.files else None
        facts, mask = read_expected(listing.path(f"{SAMPLE_FOLDER}/{EXPECTED_FILE}"), mask_path)
        return _scene(listing, facts, mask)
    except (CphlocError, ValueError):
        return None


def _scene(listing: Listing, facts: Mapping[str, Any], mask: np.ndarray | None) -> dict[str, Any]:
    first: Path = listing.path(f"{SAMPLE_FOLDER}/{next(iter(facts['inputs'].values()))}")
    scan = read_volume(str(first), spacing_mm=facts["spacing_mm"], dims=3)
    if mask is not None and mask.shape != scan.geometry.shape:
        msg = f"{listing}: the mask of the sample is not on the grid of its image"
        raise DataError(msg)
    classes = model_classes(stored_recipe(listing).last, listing.entry.classes)
    return scene(
        str(facts.get("case") or "sample"),
        scan.array[0],
        scan.geometry,
        mask,
        _attention(facts, scan.geometry.shape),
        None if facts.get("boxes") is None else _boxes(facts["boxes"], listing.entry, classes),
        classes,
        scan.window,
    )


def _attention(facts: Mapping[str, Any], shape: Sequence[int]) -> np.ndarray | None:
    """Repeat each of the cells that a sample stores."""
    values = facts.get("attention")
    if values is None:
        return None
    steps = [max(1, -(-size // ATTENTION_CELLS)) for size in shape]
    cells = np.asarray(values, np.float32).reshape([-(-size // step) for size, step in zip(shape, steps, strict=True)])
    for axis, step in enumerate(steps):
        cells = cells.repeat(step, axis)
    return cells[tuple(slice(size) for size in shape)]


def _boxes(
    boxes: Sequence[Mapping[str, Any]], entry: Entry, classes: Mapping[int, str]
) -> list[tuple[Sequence[float], int]]:
    """Give the boxes that a picture of the prediction would show, with their class numbers."""
    least = entry.options_applied.thresholds.get("boxes", SHOWN_SCORE)
    numbers = {name: number for number, name in of_part(classes, "boxes").items()}
    return [(box["voxels"], numbers.get(box["name"], 1)) for box in boxes if box["score"] >= least]
