"""Find the classes of a user's own images: names in the table, regions in the files, or values in the masks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cphloc.data.io.read import mask_values, read_volume
from cphloc.data.io.read_regions import names_regions, read_regions
from cphloc.errors import CphlocError, InputError

_MANY = 100
"""Most classes that a plan takes from values of masks; more are instances or intensities."""


def find_classes(root: Path, rows: Sequence[Mapping[str, str]], image_columns: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of ``image_folder`` that state the classes; empty where nothing is annotated.

    Args:
        root: folder of the table.
        rows: cells by column name.
        image_columns: columns of the images.

    Raises:
        InputError: names and values of the classes do not determine each other, or the values are not those of classes.
    """
    named = _names(rows)
    masks = [row for row in rows if row.get("mask")]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda row: _in_mask(root, row, image_columns), masks))
    regions = sorted({name for names, _ in found for name in names})
    values = sorted({value for _, values in found for value in values} - {0})
    if regions:
        return {"classes": sorted({*named, *regions})}
    if not values:
        return {"classes": named} if named else {}
    if values == [1]:
        return _one_value(named)
    stated, advice = ", ".join(map(str, values)), "state them with --set 'classes={1: name, 2: name, ...}'"
    if len(values) > _MANY:
        msg = f"{root}: masks hold {len(values)} values; for objects, use the column instances, else {advice}"
        raise InputError(msg)
    if named:
        msg = f"{root}: masks hold the values {stated}, and which is which of {', '.join(named)} is unknown; {advice}"
        raise InputError(msg)
    return {"classes": [f"class_{value}" for value in range(1, values[-1] + 1)]}


def _one_value(named: Sequence[str]) -> dict[str, Any]:
    """Classes of masks with the value 1 alone: with several names, 1 stands for the class of each case's label."""
    if len(named) > 1:
        return {"classes": list(named), "mask_of": "label"}
    return {"classes": list(named) or ["object"]}


def _names(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Class names in labels, boxes and columns of instances, in alphabetical order."""
    names: set[str] = set()
    for row in rows:
        for column in ("label", "instance_classes"):
            names |= {name.strip() for name in row.get(column, "").split(";") if name.strip()}
        names |= {c.removeprefix("instances_") for c, cell in row.items() if c.startswith("instances_") and cell}
        try:
            names |= {str(box[0]) for box in json.loads(row.get("boxes") or "[]")}
        except (ValueError, TypeError, IndexError):
            continue  # the case is reported when it is read
    return sorted(names - {"none"})


def _in_mask(root: Path, row: Mapping[str, str], image_columns: Sequence[str]) -> tuple[list[str], list[int]]:
    """Names of the drawn regions, or values, of the mask of a case; nothing of one that cannot be read."""
    mask = root / row["mask"]
    try:
        if not names_regions(mask):
            return [], mask_values(mask)
        images = [str(root / row[column]) for column in image_columns if row.get(column)]
        regions = read_regions(mask, read_volume(images[0]).geometry, images)
        return [name for name, region in regions.items() if region.problem is not None or region.drawn], []
    except (CphlocError, OSError):
        return [], []  # the case is reported when it is read
