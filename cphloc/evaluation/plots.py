"""Draw learning curves, and the curves of an evaluation with a CSV file of their points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cphloc.data.io.overlay import COLORS
from cphloc.files import atomic
from cphloc.metrics.curves import Curve, write_points
from cphloc.metrics.froc import LUNA16_FP_PER_SCAN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOT_LOSSES = ("lr", "steps_per_second")
_UNITS = ("_mm", "_ml")


class _Axes(NamedTuple):
    """Title and axis labels of a plot, and whether to draw the diagonal as reference."""

    title: str
    x: str
    y: str
    chance: bool = False


_KINDS = {
    "precision-recall": _Axes("precision and recall at IoU 0.5", "recall", "precision"),
    "froc": _Axes("free-response ROC at IoU 0.1", "false positives per image", "sensitivity"),
    "box-reliability": _Axes("reliability of boxes at IoU 0.5", "score", "share of boxes that hit", chance=True),
    "roc": _Axes("ROC", "1 - specificity", "sensitivity", chance=True),
    "reliability": _Axes("reliability", "predicted probability", "fraction of positives", chance=True),
}


def draw_learning(curves: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Draw losses, validation metrics and learning rate over training steps, one panel each.

    Args:
        curves: ``(step, value)`` pairs by metric, such as ``train/loss`` and ``val/dice``.
        path: picture to write.
    """
    measured = [n for n in curves if n.startswith("val/")]
    physical = [n for n in measured if n.split("/")[1].endswith(_UNITS)]
    panels = {
        ("training", "loss"): [n for n in curves if n.startswith("train/") and n.split("/")[-1] not in _NOT_LOSSES],
        ("validation", "metric"): [n for n in measured if n not in physical],
        ("validation", "mm or mL"): physical,
        ("learning rate", "learning rate"): [n for n in curves if n == "train/lr"],
    }
    shown = {labels: names for labels, names in panels.items() if names}
    figure = _figure(len(shown))
    for axes, ((title, unit), names) in zip(figure.axes, shown.items(), strict=True):
        for name in names:
            steps, values = zip(*curves[name], strict=True)
            axes.plot(steps, values, marker="." if len(steps) < 50 else None, label=name.split("/", 1)[1])
        axes.set(title=title, xlabel="step", ylabel=unit)
        axes.legend(fontsize=7)
    _save(figure, path)


def draw_scores(curves: Mapping[str, Sequence[Curve]], folder: Path, prefix: str = "") -> list[Path]:
    """Draw one plot per kind of curve, with 95 % bands, and write the points of the curves to CSV files.

    Args:
        curves: curves by kind, from `Scores.curves`.
        folder: folder to write ``<prefix><kind>.png`` and ``<prefix><kind>.csv`` to.
        prefix: start of the file names, such as ``test-``.

    Returns:
        the files written.
    """
    files = []
    for kind, of_kind in curves.items():
        figure = _figure(1)
        _draw_bands(figure.axes[0], of_kind, _KINDS[kind])
        if kind == "froc":
            _count_in_octaves(figure.axes[0])
        picture, points = folder / f"{prefix}{kind}.png", folder / f"{prefix}{kind}.csv"
        _save(figure, picture)
        write_points(points, of_kind)
        files += [picture, points]
    return files


def draw_lr_range(
    rates: Sequence[float], losses: Sequence[float], smooth: Sequence[float], best: float | None, path: Path
) -> None:
    """Draw the loss over the learning rate of a learning rate range test.

    Args:
        rates: learning rates, in ascending order.
        losses: training loss at each rate.
        smooth: smoothed losses.
        best: suggested learning rate, or ``None``.
        path: picture to write.
    """
    figure = _figure(1)
    axes = figure.axes[0]
    axes.plot(rates, losses, color="0.75", linewidth=1, label="loss")
    axes.plot(rates, smooth, color=COLORS[1], label="smoothed")
    if best is not None:
        axes.axvline(best, color=COLORS[0], linestyle="dashed", label=f"suggested: {best:.2g}")
    low, high = min(smooth), max(smooth[0], np.median(smooth))
    axes.set(title="learning rate range test", xlabel="learning rate", ylabel="training loss", xscale="log")
    axes.set_ylim(low - 0.1 * (high - low + 1e-9), high + 0.5 * (high - low + 1e-9))
    axes.legend(fontsize=8)
    _save(figure, path)


def _draw_bands(axes: Axes, curves: Sequence[Curve], labels: _Axes) -> None:
    if labels.chance:
        axes.plot([0, 1], [0, 1], color="0.6", linestyle="dotted", linewidth=1)
    for curve, color in zip(curves, np.resize(COLORS, len(curves)), strict=True):
        value, low, high = curve.summary[:3]
        text = f"{curve.name}: {curve.summary_name} {value:.3f} ({low:.3f} to {high:.3f})"
        known = ~np.isnan(curve.y)
        axes.plot(curve.x[known], curve.y[known], color=color, marker="o" if known.sum() < 15 else None, label=text)
        axes.fill_between(curve.x[known], curve.low[known], curve.high[known], color=color, alpha=0.15, linewidth=0)
    axes.set(title=labels.title, xlabel=labels.x, ylabel=labels.y, ylim=(-0.02, 1.02))
    axes.legend(fontsize=7, loc="lower right", title="95 % intervals by patient", title_fontsize=7)


def _count_in_octaves(axes: Axes) -> None:
    """Scale the x axis by powers of two, with ticks at LUNA16's operating points."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(LUNA16_FP_PER_SCAN, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])


def _figure(panels: int, width: float = 5) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, width * 0.85), layout="constrained")
    FigureCanvasAgg(figure)
    for axes in figure.subplots(1, panels, squeeze=False)[0]:
        axes.grid(alpha=0.3)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
