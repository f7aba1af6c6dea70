"""Read every case of a data set, and list the suspicious ones with the reasons."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from cphloc.data.case import Case
from cphloc.data.inspection.duplicates import repeated
from cphloc.data.inspection.examine import Examined, examine
from cphloc.data.inspection.outliers import outliers, size_of, size_unit
from cphloc.data.inspection.source import Source
from cphloc.data.inspection.vanishing import vanishing
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.data.planning.heuristics import target_spacing
from cphloc.errors import DataError
from cphloc.progress import track
from cphloc.structures.split import SPLITS, Split


@dataclass(frozen=True)
class Report:
    """Result of looking at a data set.

    Args:
        source: the data set.
        cases: all cases, most suspicious first, and in their order where they are equally so.
    """

    source: Source
    cases: tuple[Examined, ...]

    @property
    def suspicious(self) -> list[Examined]:
        """Cases with a finding, most suspicious first."""
        return [case for case in self.cases if case.findings]

    @property
    def unreadable(self) -> list[Examined]:
        """Cases that cannot be read."""
        return [case for case in self.cases if case.image is None]

    @property
    def kinds(self) -> Counter[str]:
        """Number of cases by kind of finding."""
        return Counter(kind for case in self.cases for kind in {finding.kind for finding in case.findings})

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Format the data set as (label, value) rows for display."""
        images = [case.image for case in self.cases if case.image is not None]
        splits = Counter(case.split for case in self.cases)
        rows = [("cases", ", ".join(f"{splits[split]} {split}" for split in SPLITS))]
        rows += [("patients", str(len({case.case.patient for case in self.cases})))]
        if images and len({len(image.shape) for image in images}) == 1:
            rows.append(("size", f"{_spread([image.shape for image in images])} voxels"))
            units = "/".join(sorted({image.unit for image in images}))
            rows.append(("spacing", f"{_spread([image.spacing_mm for image in images])} {units}"))
        for place, name in enumerate(self.source.dataset.channels):
            known = [image.percentiles[place] for image in images if place < len(image.percentiles)]
            if known:
                low, middle, high = np.median(known, axis=0)
                rows.append(("intensity", f"{name}: {low:.4g} (0.5%), {middle:.4g} (50%), {high:.4g} (99.5%)"))
        rungs = Counter(r.name.lower() for case in self.cases if case.objects is not None for r in case.objects.rungs)
        rows.append(("annotated", ", ".join(f"{n} {rung}" for rung, n in rungs.most_common()) or "nothing"))
        rows += [(row[0], ", ".join(row[1:])) for row in self.class_rows]
        return [*rows, *self.source.notes]

    @property
    def class_rows(self) -> list[tuple[str, ...]]:
        """By class: its name, in how many cases it is, and the least, median and largest size or number."""
        rows = []
        for number, name in self.source.dataset.classes.items():
            held = [present for case in self.cases if (present := _present(case, number)) is not None]
            masked = [c for c in self.cases if c.objects is not None and c.objects.voxels.get(number)]
            boxes = sum(c.objects.boxes.get(number, 0) for c in self.cases if c.objects is not None)
            size = f"{boxes} boxes" if boxes else "by label"
            if masked:
                least, median, largest = np.quantile([size_of(case, number) for case in masked], (0, 0.5, 1))
                size = f"{len(masked)} masks of {median:.4g} ({least:.4g} to {largest:.4g}) {size_unit(masked[0])}"
            rows.append((name, f"in {sum(held)} of {len(held)} cases", size))
        return rows

    @property
    def facts(self) -> dict[str, Any]:
        """The report as plain data for JSON."""
        return {
            "data": self.source.name,
            "cases": len(self.cases),
            "unreadable": len(self.unreadable),
            "suspicious": len(self.suspicious),
            "findings": dict(self.kinds.most_common()),
            "summary": [list(row) for row in self.rows],
            "listed": [
                {
                    "case": case.case.id,
                    "split": case.split,
                    "patient": case.case.patient,
                    "suspicion": case.suspicion,
                    "reasons": [{"kind": f.kind, "text": f.text, "others": list(f.others)} for f in case.findings],
                }
                for case in self.suspicious
            ],
        }


def check_data(source: Source) -> Report:
    """Read every case, each by itself, and compare them; only facts and small pictures of them are kept.

    Args:
        source: the data set.

    Raises:
        DataError: the data set has no case.
    """
    dataset = source.dataset
    listed: list[tuple[Case, Split]] = [(case, split) for split in SPLITS for case in dataset.cases(split)]
    if not listed:
        msg = f"{source.name}: has no case; check the folder or its table"
        raise DataError(msg)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        read = pool.map(lambda at: examine(at[0], at[1], dataset.classes, dataset.dims, source.units), listed)
        cases = list(track(read, "reading cases", len(listed)))
    found = [*outliers(cases, dataset.classes, dataset.channels), *repeated(cases)]
    if (preprocess := _preprocess(source, cases)) is not None:
        found += vanishing(cases, preprocess, len(dataset.classes))
    for case, finding in found:
        case.findings.append(finding)
    for case in cases:
        case.findings.sort(key=lambda finding: -finding.weight)
    return Report(source, tuple(sorted(cases, key=lambda case: -case.suspicion)))


def _present(case: Examined, number: int) -> bool | None:
    """Whether a class is in a case, by its label, mask or boxes; ``None`` where that is unknown."""
    if case.objects is None:
        return None
    if number in case.objects.label:
        return case.objects.label[number]
    if number not in case.objects.known:
        return None
    return bool(case.objects.voxels.get(number) or case.objects.boxes.get(number))


def _preprocess(source: Source, cases: Sequence[Examined]) -> Preprocess | None:
    """Resampling of the recipe, else to the spacing that a plan would choose; ``None`` where there is none in mm."""
    if source.preprocess is not None:
        return source.preprocess
    images = [case.image for case in cases if case.image is not None and case.image.unit == "mm"]
    if 2 * len(images) <= len(cases):
        return None
    spacing = target_spacing([image.spacing_mm for image in images], [image.shape for image in images])
    return Preprocess(source.dataset.dims, spacing, ())


def _spread(values: Sequence[Sequence[float]]) -> str:
    """Median, least and largest of each axis as text."""
    quantiles = np.quantile(np.asarray(values, float), (0.5, 0, 1), axis=0).T
    return " x ".join(f"{m:.4g}" if a == b else f"{m:.4g} ({a:.4g} to {b:.4g})" for m, a, b in quantiles)
