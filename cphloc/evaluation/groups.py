"""Metrics of groups of cases, such as those of one site, scanner, sex, or size of the objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.data.case import Case
from cphloc.data.dataset import Dataset
from cphloc.data.io.formats import case_name
from cphloc.data.io.table import NOTE, read_table
from cphloc.errors import InputError, did_you_mean
from cphloc.evaluation.scores import Scores, summary
from cphloc.metrics.bootstrap import Interval
from cphloc.metrics.recommended import NSD_TOLERANCE_MM, recommended
from cphloc.metrics.segmentation import connected_components
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.merging import of_part

SIZE = "size"
"""Name of the groups by the size of the annotated objects of a case, which are computed."""

REFERENCE_SIZE = "reference_size"
"""Column of the rows of an evaluation: annotated volume in mm3 (area in mm2) of all classes together."""

NOT_STATED = "(not stated)"


def by_group(scores: Scores, groups: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Compute the metrics of each group, with 95 % intervals by patient.

    Args:
        scores: of all cases.
        groups: id of a case -> its group.

    Returns:
        group -> ``cases``, ``patients``, and ``metrics`` and ``per_class`` as in the evaluation of all cases.
    """
    found = {}
    for group in sorted(set(groups.values()), key=lambda name: (name == NOT_STATED, name)):
        cases = [case for case in scores.cases if groups[case.scores.id] == group]
        patients = len({case.scores.patient for case in cases})
        measured = summary(Scores(cases, scores.classes).intervals())
        found[group] = {"cases": len(cases), "patients": patients, **measured}
    return found


def groups_of(column: str, dataset: Dataset, cases: Sequence[Case], scores: Scores | None = None) -> dict[str, str]:
    """Return the group of every case.

    Args:
        column: column of the data set's table, with or without ``x-`` before it; or ``size``, if the table has no such
            column: thirds of the cases by the size of their annotated objects.
        dataset: the data set.
        cases: its cases to group.
        scores: of these cases, which hold their sizes; ``None`` checks the column alone.

    Returns:
        id of a case -> its group; `NOT_STATED` where the cell is empty.

    Raises:
        InputError: there is no such column, or the table names none of the cases.
    """
    table = _table_of(dataset)
    rows = [] if table is None else read_table(table, ())
    columns = dict.fromkeys(key for row in rows for key in row)
    name = next((c for c in columns if c.casefold() in (column.casefold(), NOTE + column.casefold())), None)
    if name is None and column == SIZE:
        return {} if scores is None else _size_groups(scores)
    if name is None:
        hint = did_you_mean(column, [*columns, SIZE]) or f"choose one of {', '.join([*columns, SIZE])}"
        msg = f"{table or type(dataset).__name__}: no column '{column}' to group the cases by; {hint}"
        raise InputError(msg)
    stated: dict[str, str] = {}
    for row in rows:
        images = (value for key, value in row.items() if key.startswith("image") and value)
        for key in (row.get("case"), row.get("patient"), *map(case_name, images)):
            stated.setdefault(key or "", row[name])
    found = {case.id: stated.get(case.id, stated.get(case.patient, "")) or NOT_STATED for case in cases}
    if all(case.id not in stated and case.patient not in stated for case in cases):
        msg = f"{table}: names none of the cases, such as '{cases[0].id}', in its columns case, patient or image"
        raise InputError(msg)
    return found


def reference_facts(annotation: Annotation, geometry: Geometry, classes: Mapping[int, str]) -> dict[str, Any]:
    """Measure what is annotated in a case.

    Args:
        annotation: completed along the ladder.
        geometry: grid of the image.
        classes: number 1..K -> name.

    Returns:
        ``reference_size``: volume in mm3 (area in mm2) of all classes of the mask, else of the boxes; and
        ``reference_objects``: mean number of objects of the classes that are present. Empty without either.
    """
    if annotation.mask is not None:
        present = [annotation.mask == number for number in classes]
        counts = [connected_components(mask)[1] for mask in present if mask.any()]
        size = sum(int(np.count_nonzero(mask)) for mask in present) * geometry.voxel_volume
    elif annotation.boxes is not None:
        edges, numbers = annotation.objects
        counts = list(np.unique(numbers, return_counts=True)[1])
        size = (
            float(np.prod(edges[:, geometry.dims :] - edges[:, : geometry.dims], axis=1).sum()) * geometry.voxel_volume
        )
    else:
        return {}
    return {REFERENCE_SIZE: size, "reference_objects": float(np.mean(counts)) if counts else 0.0}


def _table_of(dataset: Dataset) -> Path | None:
    """Table of the cases of a data set; ``None`` where it has none."""
    root = getattr(dataset, "root", None)
    table = getattr(dataset, "table", None if root is None else Path(root) / "cases.csv")
    return Path(table) if table is not None and Path(table).is_file() else None


def _size_groups(scores: Scores) -> dict[str, str]:
    """Thirds of the cases by the size of their annotated objects, and those without an object."""
    sizes = {case.scores.id: case.scores.facts.get(REFERENCE_SIZE) for case in scores.cases}
    present = [size for size in sizes.values() if size]
    low, high = np.quantile(present, [1 / 3, 2 / 3]) if present else (0.0, 0.0)

    def _group(size: float | None) -> str:
        """Name of the group, with its limits."""
        if not size:
            return NOT_STATED if size is None else "none"
        if size <= low:
            return f"1 small (to {low:.3g})"
        return f"2 medium (to {high:.3g})" if size <= high else f"3 large (above {high:.3g})"

    return {id: _group(size) for id, size in sizes.items()}


def why_metrics(
    scores: Scores, intervals: Mapping[str, Interval], tolerances_mm: Mapping[str, float]
) -> dict[str, Any]:
    """Return what an evaluation states about the choice of its metrics.

    Args:
        scores: of all cases.
        intervals: the metrics of these.
        tolerances_mm: tolerance of ``nsd`` by class name, where it is stated.

    Returns:
        ``recommended``, see `cphloc.metrics.recommended.recommended`; and ``nsd_tolerance_mm`` of every class.
    """
    measured = {name for name, found in intervals.items() if found.n}
    stated = {"recommended": recommended(measured, mean_objects(scores), tolerances_mm)}
    if "nsd" not in measured:
        return stated
    names = of_part(scores.classes, "mask").values()
    return stated | {"nsd_tolerance_mm": {name: tolerances_mm.get(name, NSD_TOLERANCE_MM) for name in names}}


def mean_objects(scores: Scores) -> float:
    """Return the mean number of annotated objects of a class in the cases that have any; 0 without."""
    counts = [count for case in scores.cases if (count := case.scores.facts.get("reference_objects"))]
    return sum(counts) / len(counts) if counts else 0.0
