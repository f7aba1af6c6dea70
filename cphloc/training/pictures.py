"""Pictures of a training: learning curves, and the best, median and worst case with true and predicted outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#e41a1c", "#377eb8", "#4daf4a", "#ff7f00", "#984ea3", "#a65628", "#f781bf", "#999999")
_NOT_LOSSES = ("lr", "steps_per_second")


def draw_curves(curves: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Draw the losses, the validation metrics and the learning rate over steps.

    Args:
        curves: ``(step, value)`` of each metric by name, as `tracking.curves` gives them.
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


def draw_overlay(
    image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, spacing_mm: tuple[float, ...], title: str, path: Path
) -> None:
    """Draw the slice with the most annotated or predicted voxels: truth dashed, prediction solid, a colour a class.

    Args:
        image: ``(*S)``.
        truth: class mask ``(*S)``; 255 counts as background.
        predicted: class mask ``(*S)``.
        spacing_mm: voxel size per axis, for the aspect.
        title: above the picture.
        path: picture to write.
    """
    truth = np.where(truth == 255, 0, truth)
    row = _fullest_slice(np.logical_or(truth, predicted))
    picture, truth, predicted = image[row], truth[row], predicted[row]
    figure = _figure(2, width=4)
    for axes, masks in zip(figure.axes, ((), ((truth, "dashed"), (predicted, "solid"))), strict=True):
        low, high = np.percentile(picture, (0.5, 99.5))
        axes.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=spacing_mm[-2] / spacing_mm[-1])
        axes.set_axis_off()
        for mask, style in masks:
            _outline(axes, mask, style)
    figure.suptitle(f"{title}\ndashed: reference, solid: prediction", fontsize=9)
    _save(figure, path)


def _fullest_slice(marked: np.ndarray) -> tuple[int, ...]:
    """Index along the leading axes (none in 2-D) where ``marked`` has most voxels; the middle where it is empty."""
    counts = marked.sum(axis=(-2, -1))
    if not counts.any():
        return tuple(n // 2 for n in counts.shape)
    return tuple(int(i) for i in np.unravel_index(counts.argmax(), counts.shape))


def _outline(axes: Axes, mask: np.ndarray, style: str) -> None:
    for number in np.unique(mask[mask > 0]):
        colour = _COLOURS[(int(number) - 1) % len(_COLOURS)]
        edged = np.pad((mask == number).astype(float), 1)
        along = [np.arange(-1, n + 1) for n in mask.shape]
        axes.contour(along[1], along[0], edged, levels=[0.5], colors=colour, linestyles=style, linewidths=1.2)


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
