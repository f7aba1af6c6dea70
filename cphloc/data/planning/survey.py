"""Summarize the training cases of a data set: sizes, spacings, intensities and annotations."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cphloc.data.case import Case, checked, read_case
from cphloc.data.dataset import Dataset
from cphloc.errors import DataError
from cphloc.progress import track
from cphloc.structures.annotation import IGNORE, Annotation, Rung
from cphloc.structures.fingerprint import percentiles_of

_ORDER = ("least", "median", "largest")


@dataclass(frozen=True)
class CaseFacts:
    """Summary of one case, with axes in canonical order.

    Args:
        shape: voxels per axis.
        spacing_mm: voxel size, in ``unit``.
        unit: ``mm`` or ``px``.
        modality: DICOM modality from the file, or ``None``.
        ranges: lowest and highest value of each channel.
        percentiles: 0.5th, 50th and 99.5th percentile of each channel.
        rungs: rungs that are annotated, weakest first; not those that follow from a stronger one.
        box_sizes: extents ``(n, D)`` of the boxes in voxels.
        box_classes: class numbers ``(n,)``.
        foreground: fraction of the annotated voxels that belong to a class; ``None`` without a mask.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    unit: str
    modality: str | None
    ranges: tuple[tuple[float, float], ...]
    percentiles: tuple[tuple[float, float, float], ...]
    rungs: tuple[Rung, ...]
    box_sizes: np.ndarray
    box_classes: np.ndarray
    foreground: float | None

    @property
    def rung(self) -> Rung | None:
        """Strongest rung of the annotation; ``None`` without annotation."""
        return self.rungs[-1] if self.rungs else None


@dataclass(frozen=True)
class Survey:
    """Summaries of the training cases of a data set.

    Args:
        dataset: the data set.
        cases: a summary of each case that could be read.
        problems: one line for each case that could not be read.
        notes: further (label, value) rows, such as how the splits were chosen.
        remarks: what differs between the cases and how the plan treats it, one line each.
    """

    dataset: Dataset
    cases: tuple[CaseFacts, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def rungs(self) -> Counter[str]:
        """Number of cases per annotated rung, and ``none`` for cases without annotation."""
        stated = Counter(rung.name.lower() for case in self.cases for rung in reversed(case.rungs))
        return stated + Counter(none=sum(not case.rungs for case in self.cases))

    @property
    def physical(self) -> bool:
        """Whether sizes are in millimetres."""
        return all(case.unit == "mm" for case in self.cases)

    def resampled(self, spacing: Sequence[float]) -> np.ndarray:
        """Size ``(n, D)`` of each image in voxels of ``spacing``, which is in the unit of the survey."""
        shapes = np.asarray([case.shape for case in self.cases], float)
        return shapes * [case.spacing_mm for case in self.cases] / np.asarray(spacing) if self.physical else shapes

    def median_shape(self, spacing: Sequence[float]) -> list[float]:
        """Median size in voxels of ``spacing``."""
        return np.median(self.resampled(spacing), axis=0).tolist()

    @property
    def needs_whole_images(self) -> bool:
        """Whether at least half of the cases have nothing stronger than a label or region.

        A label holds for the whole image; of a patch, it states only which classes are absent.
        """
        weak = [case.rung is None or case.rung <= Rung.REGION for case in self.cases]
        return 2 * sum(weak) >= len(weak)

    @property
    def stated(self) -> tuple[Rung, ...]:
        """Rungs that at least one case states, weakest first."""
        return tuple(rung for rung in Rung if any(rung in case.rungs for case in self.cases))

    @property
    def one_class_per_image(self) -> bool:
        """Whether every image holds objects of one class at most, and a label beside its objects, of several classes.

        The class is then a property of the image: a label head learns it faster than a mask does, whose classes divide
        the images among them.
        """
        holding = [case for case in self.cases if len(case.box_classes)]
        single = all(len(set(case.box_classes.tolist())) == 1 and Rung.LABEL in case.rungs for case in holding)
        return single and len({int(case.box_classes[0]) for case in holding}) > 1

    @property
    def foreground(self) -> float:
        """Mean fraction of the voxels that belong to a class, over the cases with a mask."""
        return float(np.mean([case.foreground for case in self.cases if case.foreground is not None] or [0.0]))

    @property
    def box_extents(self) -> np.ndarray:
        """Extents ``(n, D)`` of all boxes, in the unit of the spacing."""
        dims = self.dataset.dims
        return np.concatenate([np.zeros((0, dims)), *(c.box_sizes * c.spacing_mm for c in self.cases)])

    @property
    def objects(self) -> Counter[str]:
        """Class name -> number of objects."""
        numbers = Counter(int(k) for c in self.cases for k in c.box_classes)
        return Counter({name: numbers[number] for number, name in self.dataset.classes.items()})

    @property
    def facts(self) -> dict[str, Any]:
        """The survey as plain data for JSON; sizes and spacings in array order."""
        extents = self.box_extents
        medians = np.median([c.percentiles for c in self.cases], axis=0)
        return {
            "cases": len(self.cases),
            "problems": list(self.problems),
            "remarks": list(self.remarks),
            "unit": self.cases[0].unit,
            "size": _spread([c.shape for c in self.cases]),
            "spacing": _spread([c.spacing_mm for c in self.cases]),
            "intensity": {
                name: dict(zip(("0.5%", "50%", "99.5%"), values, strict=True))
                for name, values in zip(self.dataset.channels, medians.tolist(), strict=True)
            },
            "annotated": dict(self.rungs.most_common()),
            "objects": dict(self.objects),
            "object_size": _spread(extents) if len(extents) else None,
        }

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Format the survey as (label, value) rows for display."""
        facts = self.facts
        unit = facts["unit"]
        rows = [
            ("cases", f"{facts['cases']}" + (f", {len(self.problems)} cannot be read" if self.problems else "")),
            ("size", f"{_written(facts['size'])} voxels"),
            ("spacing", f"{_written(facts['spacing'])} {unit}"),
            *(
                ("intensity", f"{name}: " + ", ".join(f"{v:.4g} ({share})" for share, v in values.items()))
                for name, values in facts["intensity"].items()
            ),
            ("annotated", ", ".join(f"{n} {rung}" for rung, n in facts["annotated"].items())),
        ]
        if set(self.stated) & {Rung.BOXES, Rung.MASK}:
            rows.append(("objects", ", ".join(f"{n} {name}" for name, n in facts["objects"].items())))
        if facts["object_size"]:
            rows.append(("object", f"{_written(facts['object_size'])} {unit}"))
        rows += self.notes
        rows += [("unreadable", problem) for problem in self.problems]
        return rows + [("note", remark) for remark in self.remarks]


def survey(dataset: Dataset) -> Survey:
    """Read and summarize every training case of ``dataset``, in up to 8 threads.

    Raises:
        DataError: no case can be read; the message contains the first problem.
    """
    cases = dataset.cases("train")
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        facts_of = partial(_summary, classes=len(dataset.classes), dims=dataset.dims, channels=len(dataset.channels))
        summaries = pool.map(facts_of, cases)
        results = list(track(summaries, "reading cases", len(cases)))
    facts = {case.id: r for case, r in zip(cases, results, strict=True) if isinstance(r, CaseFacts)}
    problems = tuple(r for r in results if isinstance(r, str))
    if not facts:
        msg = f"no training case can be read{': ' + problems[0] if problems else '; the split is empty'}"
        raise DataError(msg)
    return _surveyed(dataset, facts, problems)


def _surveyed(dataset: Dataset, facts: Mapping[str, CaseFacts], problems: tuple[str, ...]) -> Survey:
    """Join the summaries of cases, in millimetres if most of them state a voxel size, and else in pixels."""
    without = [name for name, case in facts.items() if case.unit == "px"]
    if not without or len(without) == len(facts):
        return Survey(dataset, tuple(facts.values()), problems)
    listed = f"{', '.join(without[:5])}{', ...' if len(without) > 5 else ''}"
    share = f"{len(without)} of {len(facts)} cases state no voxel size ({listed})"
    if 2 * len(without) > len(facts):
        one = (1.0,) * dataset.dims
        cases = tuple(replace(case, spacing_mm=one, unit="px") for case in facts.values())
        return Survey(dataset, cases, problems, (f"{share}; the plan is in pixels and uses no size of the others",))
    cases = tuple(case for case in facts.values() if case.unit == "mm")
    advice = "give them a size (voxel_mm, or a format that stores it) or leave them out"
    return Survey(dataset, cases, problems, (f"{share}, which the plan leaves out; {advice}",))


def _summary(case: Case, classes: int, dims: int, channels: int) -> CaseFacts | str:
    """Summarize one case, or return the problem with it as text."""
    try:
        volume, given = read_case(case, dims)
        if len(volume.array) != channels:
            return f"case '{case.id}': has {len(volume.array)} channels, and the data set has {channels}; convert it"
        done = checked(case, given, volume.geometry.shape, classes)
    except DataError as error:
        return f"case '{case.id}': {error}"
    grid = volume.geometry.reoriented(*volume.geometry.canonical())
    boxes, box_classes = np.zeros((0, 2 * dims)), np.zeros(0, int)
    if done.boxes is not None:
        objects, box_classes = done.objects
        boxes = volume.geometry.boxes_to(grid, objects)
    ranges = tuple((float(c.min()), float(c.max())) for c in volume.array)
    percentiles = tuple(map(percentiles_of, volume.array))
    sizes = boxes[:, dims:] - boxes[:, :dims]
    image = (grid.shape, grid.spacing_mm, grid.unit, volume.modality, ranges, percentiles)
    known = np.zeros(0) if done.mask is None else done.mask[done.mask != IGNORE]
    foreground = float((known > 0).mean()) if known.size else None
    return CaseFacts(*image, _stated(given), sizes, box_classes, foreground)


def _stated(given: Annotation) -> tuple[Rung, ...]:
    """The rungs that an annotation states, weakest first."""
    parts = {Rung.LABEL: given.label, Rung.REGION: given.region, Rung.BOXES: given.boxes, Rung.MASK: given.mask}
    return tuple(rung for rung, part in parts.items() if part is not None)


def _spread(values: Sequence[Sequence[float]] | np.ndarray) -> dict[str, list[float]]:
    """Minimum, median and maximum of each column."""
    quantiles = np.quantile(np.asarray(values, float), (0, 0.5, 1), axis=0)
    return dict(zip(("least", "median", "largest"), quantiles.tolist(), strict=True))


def _written(spread: dict[str, list[float]]) -> str:
    return " x ".join(f"{m:.4g} ({a:.4g} to {b:.4g})" for a, m, b in zip(*(spread[k] for k in _ORDER), strict=True))
