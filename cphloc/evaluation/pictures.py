"""Pictures of cases, with what is known about them and what was found; and which cases are worth one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.data.io.overlay import Box, overlay
from cphloc.evaluation.scores import CasePrediction
from cphloc.registry.metrics import lower_is_better
from cphloc.structures.annotation import Annotation
from cphloc.structures.volume import Volume

_SHOWN_SCORE = 0.3


def draw_case(
    volume: Volume, known: Annotation, found: CasePrediction, classes: Mapping[int, str], title: str, path: Path
) -> None:
    """Draw an image with its annotation and with what was found: outlines, boxes, attention.

    Args:
        volume: the image.
        known: its annotation.
        found: by the model, on the same grid.
        classes: number -> name.
        title: above the picture.
        path: picture to write.
    """
    known = known.completed(volume.geometry.shape, len(classes))
    both = {"expert": known.mask, "cphloc": found.mask}
    masks = {who: np.asarray(mask) for who, mask in both.items() if mask is not None}
    boxes: dict[str, list[Box]] = {}
    if found.boxes is not None:
        if known.boxes is not None:
            pairs = zip(known.boxes, known.box_classes, strict=True)
            boxes["expert"] = [(edges, int(number), "") for edges, number in pairs]
        sure = found.scores >= _SHOWN_SCORE
        rows = zip(found.boxes[sure], found.box_classes[sure], found.scores[sure], strict=True)
        boxes["cphloc"] = [(edges, int(number), f"{score:.2f}") for edges, number, score in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    overlay(volume, classes, masks, boxes, found.attention, title).savefig(path)


def extremes(rows: Sequence[Mapping[str, Any]], headline: str) -> tuple[str, dict[str, str]]:
    """The worst, median and best case.

    A headline that no single case has, such as average precision, is stood in for by the first score that cases have.

    Args:
        rows: one a case, with ``case`` and its scores.
        headline: metric to rank them by.

    Returns:
        the metric that ranks them, and the case at each place.

    >>> extremes([{"case": "a", "dice": 0.9}, {"case": "b", "dice": 0.7}, {"case": "c", "dice": 0.8}], "dice")
    ('dice', {'worst': 'b', 'median': 'c', 'best': 'a'})
    """
    names = [name for name in rows[0] if name not in ("case", "patient") and not name.startswith("p/")]
    name = headline if headline in names else next(iter(names), headline)
    scored = {row["case"]: row.get(name, float("nan")) for row in rows}
    known = [case for case, value in scored.items() if value == value]
    ranked = sorted(known, key=scored.get, reverse=lower_is_better(name)) or list(scored)
    places = {"worst": 0, "median": len(ranked) // 2, "best": -1}
    return name, {title: ranked[place] for title, place in places.items()}


def heading(title: str, case: str, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Line above the picture of a case."""
    value = next(row for row in rows if row["case"] == case).get(name, float("nan"))
    return f"{title}: {case}, {name} {value:.3f}"
