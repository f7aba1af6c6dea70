"""One case of a data set: what was read, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.data.case import Case, checked, read_case
from cphloc.data.inspection.examine import Examined, examine
from cphloc.data.inspection.outliers import size_of, size_unit
from cphloc.data.inspection.source import Source
from cphloc.data.io.overlay import Box, overlay
from cphloc.errors import NotFoundError, did_you_mean
from cphloc.files import atomic
from cphloc.structures.fingerprint import AXES
from cphloc.structures.rung import Rung
from cphloc.structures.split import SPLITS, Split


@dataclass(frozen=True)
class Look:
    """What was read of a case.

    Args:
        source: the data set.
        examined: the case; with image and annotation.
    """

    source: Source
    examined: Examined

    @property
    def facts(self) -> dict[str, Any]:
        """What was read, as plain data for JSON; sizes in canonical axis order (slices, rows, columns)."""
        case, image, objects = self.examined.case, self.examined.image, self.examined.objects
        facts: dict[str, Any] = {
            "case": case.id,
            "split": self.examined.split,
            "patient": case.patient,
            "files": [str(path) for path in case.files],
            "findings": [finding.text for finding in self.examined.findings],
        }
        if image is None or objects is None:
            return facts
        return facts | {
            "axes": list(AXES[-len(image.shape) :]),
            "size": list(image.shape),
            "spacing": list(image.spacing_mm),
            "extent": [n * s for n, s in zip(image.shape, image.spacing_mm, strict=True)],
            "unit_of_length": image.unit,
            "stored_axes": image.orientation,
            "modality": image.modality,
            "channels": [
                {"name": name, "unit": self._unit(k), "range": list(image.ranges[k]), "percentiles": list(p)}
                for k, (name, p) in enumerate(zip(self.source.dataset.channels, image.percentiles, strict=False))
            ],
            "annotated": [rung.name.lower() for rung in objects.rungs],
            "classes": {name: self._class(number) for number, name in self.source.dataset.classes.items()},
        }

    def _unit(self, channel: int) -> str:
        unit = self.source.units[channel]
        stated = None if self.examined.image is None else self.examined.image.stated_unit
        return str(unit) if unit is not None else stated or "arbitrary"

    def _class(self, number: int) -> str:
        """What is known about a class of the case, in words."""
        objects = self.examined.objects
        if objects is None:
            return "unknown"
        label = objects.label.get(number)
        stated = [] if label is None else [f"label: {'present' if label else 'absent'}"]
        if objects.voxels.get(number):
            size = f"{size_of(self.examined, number):.4g} {size_unit(self.examined)}"
            stated.append(f"mask: {size}, connected parts: {objects.pieces[number]}")
        elif number in objects.voxels:
            stated.append("mask: absent")
        if Rung.BOXES in objects.rungs and number in objects.known:
            stated.append(f"boxes: {objects.boxes[number] or 'none'}")
        return ", ".join(stated) or "unknown"

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What was read as (label, value) rows for display."""
        facts = self.facts
        rows = [(key, facts[key]) for key in ("case", "split", "patient")]
        rows += [("file", path) for path in facts["files"]]
        if "axes" in facts:
            sizes = zip(facts["axes"], facts["size"], facts["spacing"], facts["extent"], strict=True)
            unit = facts["unit_of_length"]
            rows += [(axis, f"{n} voxels of {s:.4g} {unit}, {e:.4g} {unit}") for axis, n, s, e in sizes]
            rows.append(("stored", f"axes grow towards {facts['stored_axes']} (letters of the patient's directions)"))
            rows.append(("modality", facts["modality"] or "not stated"))
            rows += [("channel", _channel(channel)) for channel in facts["channels"]]
            rows.append(("annotated", ", ".join(facts["annotated"]) or "nothing"))
            rows += list(facts["classes"].items())
        return rows + [("suspicious", text) for text in facts["findings"]]

    def draw(self, path: Path) -> None:
        """Write a picture with outlines and boxes: the image in 2-D, three planes in 3-D.

        Args:
            path: PNG file to write.

        Raises:
            DataError: the case cannot be read.
        """
        dataset = self.source.dataset
        volume, given = read_case(self.examined.case, dataset.dims)
        whole = checked(self.examined.case, given, volume.geometry.shape, len(dataset.classes))
        masks = {"annotation": np.asarray(whole.mask)} if given.mask is not None else {}
        boxes: dict[str, list[Box]] = {}
        if given.boxes is not None:
            boxes["annotation"] = [(edges, int(number), "") for edges, number in zip(*whole.objects, strict=True)]
        if given.region is not None and not masks:
            masks["region"] = (np.asarray(given.region) > 0).astype(np.uint8)
        figure = overlay(volume, dataset.classes, masks, boxes, None, self.examined.case.id)
        with atomic(path) as temporary:
            figure.savefig(temporary, format="png")


def look(source: Source, name: str) -> Look:
    """Read one case of a data set.

    Args:
        source: the data set.
        name: id of the case.

    Raises:
        NotFoundError: there is no such case.
    """
    dataset = source.dataset
    listed: dict[str, tuple[Case, Split]] = {c.id: (c, split) for split in SPLITS for c in dataset.cases(split)}
    if name not in listed:
        hint = did_you_mean(name, listed) or f"its cases are called like {', '.join(list(listed)[:3])}"
        msg = f"{source.name}: no case '{name}'; {hint}"
        raise NotFoundError(msg)
    case, split = listed[name]
    return Look(source, examine(case, split, dataset.classes, dataset.dims, source.units))


def _channel(channel: dict[str, Any]) -> str:
    low, high = channel["range"]
    first, middle, last = channel["percentiles"]
    values = f"{low:.4g} to {high:.4g}, mostly {first:.4g} to {last:.4g}, median {middle:.4g}"
    return f"{channel['name']} in {channel['unit']}: {values}"
