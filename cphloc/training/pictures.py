"""Pictures of a training: learning curves, and cases with what is known about them and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cphloc.data.cache import PreparedCase
from cphloc.data.overlay import Box, overlay
from cphloc.data.volume import Volume
from cphloc.training.scores import Found

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN_SCORE = 0.3
_NOT_LOSSES = ("lr", "steps_per_second")


def draw_curves(curves: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Draw the losses, the validation metrics and the learning rate over steps.

    Args:
        curves: ``(step, value)`` of each metric by name, as `events.curves` gives them.
        path: picture to write.
    """
    panels = {
        "training loss": [n for n in curves if n.startswith("train/") and n.split("/")[-1] not in _NOT_LOSSES],
        "validation": [n for n in curves if n.startswith("val/")],
        "learning rate": [n for n in curves if n == "train/lr"],
    }
    shown = {title: names for title, names in panels.items() if names}
    figure = _figure(len(shown), width=5)
    for axes, (title, names) in zip(figure.axes, shown.items(), strict=True):
        for name in names:
            steps, values = zip(*curves[name], strict=True)
            axes.plot(steps, values, marker="." if len(steps) < 50 else None, label=name.split("/", 1)[1])
        axes.set(title=title, xlabel="step")
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    _save(figure, path)


def draw_case(case: PreparedCase, found: Found, classes: Mapping[int, str], title: str, path: Path) -> None:
    """Draw a prepared case with its annotation and with what was found: outlines, boxes, attention.

    Args:
        case: image and annotation.
        found: by the model, on the same grid.
        classes: number -> name.
        title: above the picture.
        path: picture to write.
    """
    known = case.annotation.completed(case.image.shape[1:], len(classes))
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
    volume = Volume(np.asarray(case.image), case.geometry)
    _save(overlay(volume, classes, masks, boxes, found.attention, title), path)


def _figure(panels: int, width: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, width * 0.85), layout="constrained")
    FigureCanvasAgg(figure)
    figure.subplots(1, panels)
    return figure


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
