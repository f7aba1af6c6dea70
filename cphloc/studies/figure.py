"""Draw the figure of a study: one panel per metric, with mean, interval and the value of every seed.

A study that states a metric to draw the others ``against``, such as a cost, has a point for each arm over it.
"""

from __future__ import annotations

import colorsys
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cphloc.files import atomic
from cphloc.registry.metrics import lower_is_better

PANELS = 4
"""Largest number of metrics in the figure; further metrics are only in the table."""

_COLOURS = ("#3b6fb6", "#d1603d", "#4f9d69", "#8e6bb0", "#c9a227", "#5aa7a7", "#b04a6b", "#7a7a7a")

_STYLE = {"svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"], "font.size": 8}


def draw(facts: Mapping[str, Any], path: Path) -> None:
    """Draw the results of a study.

    Args:
        facts: from `cphloc.studies.results.Results.facts`.
        path: file to write; its suffix selects PNG, PDF or SVG.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {**_STYLE, "svg.hashsalt": facts["study"]}
    if facts.get("against"):
        with rc_context(style):
            _save(_against(facts, facts["against"]), path)
        return
    rows, metrics = facts["rows"], list(facts["metrics"])[:PANELS]
    over_grid = len({row["at"] for row in rows}) > 1 and all(_is_number(row["at"]) for row in rows)
    names = list(dict.fromkeys(row["row"] for row in rows))
    height = 2.6 if over_grid else 0.9 + 0.28 * len(rows)
    with rc_context(style):
        figure = Figure(figsize=(2.9 * len(metrics) + (2.2 if over_grid else 1.6), height), layout="constrained")
        panels = figure.subplots(1, len(metrics), squeeze=False, sharey=not over_grid)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            shown = [row for row in rows if _known(row, metric)]
            (_lines if over_grid else _bars)(axes, shown if over_grid else rows, names, metric)
            arrow = "lower is better" if lower_is_better(metric) else ""
            axes.set_title(metric + (f" ({arrow})" if arrow else ""), fontsize=8)
            axes.grid(alpha=0.25, linewidth=0.5)
        if over_grid:
            curves = {line.get_label(): line for axes in panels for line in axes.get_lines()}
            figure.legend(curves.values(), curves.keys(), loc="outside right upper", fontsize=7)
        _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with atomic(path) as draft:
        figure.savefig(draft, dpi=90, metadata={"Date": None} if path.suffix == ".svg" else None)
        if path.suffix == ".svg":
            draft.write_text(_compact(draft.read_text(encoding="utf-8")), encoding="utf-8")


def _compact(svg: str) -> str:
    """Remove the indentation of an SVG, and digits beyond a hundredth of a pixel.

    >>> _compact('<g>\\n <path d="M 1.23456 2"/>')
    '<g>\\n<path d="M 1.23 2"/>'
    """
    return re.sub(r"(\.\d\d)\d+", r"\1", re.sub(r"\n +", "\n", svg))


def _against(facts: Mapping[str, Any], cost: str) -> Any:
    """Draw one panel per metric over another one, a point with both intervals for every row.

    The horizontal interval is from ``<cost>_low`` to ``<cost>_high`` where these are measured. Rows of equal cost are
    drawn side by side.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ends = [f"{cost}_low", f"{cost}_high"]
    metrics = [metric for metric in facts["metrics"] if metric not in (cost, *ends)][:PANELS]
    names = list(dict.fromkeys(row["row"] for row in facts["rows"]))
    figure = Figure(figsize=(2.7 * len(metrics) + 2.0, 2.8), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        rows = [row for row in facts["rows"] if _known(row, metric) and _known(row, cost)]
        for row, at in zip(rows, _side_by_side([row["metrics"][cost]["value"] for row in rows]), strict=True):
            _point(axes, row, metric, at, ends, _colour(names, row))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(cost.replace("_", " "))
        axes.set_title(metric + (" (lower is better)" if lower_is_better(metric) else ""), fontsize=8)
        axes.grid(alpha=0.25, linewidth=0.5)
    shown = {line.get_label(): line for axes in figure.axes for line in axes.get_lines() if line.get_label() in names}
    figure.legend([shown[n] for n in names if n in shown], [n for n in names if n in shown], loc="outside right upper")
    return figure


def _side_by_side(values: Sequence[float]) -> list[float]:
    """Move equal values apart on a logarithmic axis, by a tenth each, around where they are.

    >>> [round(value, 3) for value in _side_by_side([5.0, 100.0, 100.0])]
    [5.0, 95.346, 104.881]
    """
    ranks = [values[:place].count(value) - (values.count(value) - 1) / 2 for place, value in enumerate(values)]
    return [value * 1.1**rank for value, rank in zip(values, ranks, strict=True)]


def _point(axes: Any, row: Mapping[str, Any], metric: str, at: float, ends: Sequence[str], colour: str) -> None:
    """Draw a row at its cost: value with interval upwards, and the range of the cost sideways."""
    found = row["metrics"][metric]
    axes.plot(at, found["value"], "o", color=colour, markersize=5, label=row["row"])
    if found["low"] is not None:
        axes.vlines(at, found["low"], found["high"], color=colour, linewidth=1.5, alpha=0.7)
    if all(_known(row, end) for end in ends):
        axes.hlines(found["value"], *(row["metrics"][end]["value"] for end in ends), color=colour, alpha=0.4)


def _bars(axes: Any, rows: Sequence[Mapping[str, Any]], names: Sequence[str], metric: str) -> None:
    """Draw one horizontal line per row: interval, mean, and a tick for every seed."""
    titles = [row["row"] if row["at"] is None else f"{row['row']} @ {row['at']}" for row in rows]
    axes.set_yticks(range(len(rows)), titles)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for place, row in enumerate(rows):
        if _known(row, metric):
            found, colour = row["metrics"][metric], _colour(names, row)
            if found["low"] is not None:  # of more than one seed
                axes.hlines(place, found["low"], found["high"], color=colour, linewidth=4, alpha=0.4)
            axes.plot(found["value"], place, "o", color=colour, markersize=5)
            seeds = [value for value in row["values"][metric] if value is not None]
            axes.plot(seeds, [place] * len(seeds), "|", color=colour, markersize=6, alpha=0.7)


def _lines(axes: Any, rows: Sequence[Mapping[str, Any]], names: Sequence[str], metric: str) -> None:
    """Draw one curve per arm over the values of the grid, with its interval as a band."""
    for name in names:
        points = [row for row in rows if row["row"] == name]
        at = [row["at"] for row in points]
        low, value, high = ([row["metrics"][metric][key] for row in points] for key in ("low", "value", "high"))
        if points:
            colour = _colour(names, points[0])
            axes.plot(at, value, "o-", color=colour, markersize=4, label=name)
            axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    places = sorted({row["at"] for row in rows})
    if places and places[0] > 0 and places[-1] / places[0] >= 4:
        axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{place:g}" for place in places])


def _colour(names: Sequence[str], row: Mapping[str, Any]) -> str:
    """Return the colour of a row, which no other name has.

    Args:
        names: distinct names of all rows of the figure.
        row: the row.
    """
    place = names.index(row["row"])
    if len(names) <= len(_COLOURS):
        return _COLOURS[place]
    # Hues at equal distances; neighbours differ in brightness as well.
    rgb = colorsys.hsv_to_rgb(place / len(names), 0.7, (0.8, 0.55)[place % 2])
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def _known(row: Mapping[str, Any], metric: str) -> bool:
    found = row["metrics"].get(metric)
    return found is not None and found["value"] is not None and not math.isnan(found["value"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
