"""A page that compares two entries or runs case by case: scatter, paired differences, and cases side by side."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.errors import CphlocError
from cphloc.files import atomic
from cphloc.inference.html_page import html_page, rendered
from cphloc.publishing.checks import same_cases
from cphloc.publishing.compare import ComparedMetric, Source
from cphloc.registry.metrics import is_signed, less_is_gain, meanings

_TEMPLATE = Path(__file__).with_name("templates") / "compare.html"
_SIDE, _BORDER = 420, 46
"""Size of a figure and of its border, in pixels."""


@dataclass(frozen=True)
class Point:
    """A case with the values of both sources; of a signed error their distances from 0."""

    case: str
    first: float
    last: float

    @property
    def difference(self) -> float:
        """Last minus first."""
        return self.last - self.first


def write_compare_page(
    path: Path, specs: Sequence[str], sources: Sequence[Source], lines: Sequence[ComparedMetric], rows: Sequence[Any]
) -> None:
    """Write the page of the first and the last source; it holds its pictures.

    Args:
        path: file to write.
        specs: the sources as the user named them.
        sources: from `cphloc.publishing.compare.compare`.
        lines: from there as well.
        rows: the table of metrics as texts, headings first.
    """
    first, last = sources[0], sources[-1]
    figures = [found for line in lines if (found := _figure(line, first, last)) is not None]
    pictures, note = _pictures(figures[0], (specs[0], specs[-1])) if figures else ([], "")
    body = rendered(
        _TEMPLATE, first=first.name, last=last.name, rows=rows, figures=figures, pictures=pictures, note=note
    )
    html = html_page(f"{last.name} against {first.name}", body, _STYLE)
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")


def _figure(line: ComparedMetric, first: Source, last: Source) -> dict[str, Any] | None:
    """Give what the template draws of a metric; ``None`` for one that no case has by itself."""
    if line.difference is None:
        return None
    metric = line.metric.partition("/")[2]
    points = points_of(metric, first, last)
    if not points:
        return None
    values = [value for point in points for value in (point.first, point.last)]
    axis = _Axis.of(values)
    ordered = sorted(points, key=lambda point: point.difference, reverse=less_is_gain(metric))
    spread = _Axis.of([0.0, *(point.difference for point in ordered)])
    found = line.difference
    return {
        "metric": metric,
        "meaning": meanings([metric]).get(metric, ""),
        "better": "lower" if less_is_gain(metric) else "higher",
        "difference": f"{found.value:+.4f}",
        "interval": "" if np.isnan(found.low) else f"[{found.low:+.4f}, {found.high:+.4f}]",
        "p": f"{found.p_value:.3f}",
        "dots": [{"x": axis.at(p.first), "y": _SIDE - axis.at(p.last), "text": _text(p, first, last)} for p in points],
        "ticks": [{"at": axis.at(tick), "text": f"{tick:.3g}"} for tick in axis.ticks],
        "bars": list(_bars(ordered, spread, first, last)),
        "bar_ticks": [{"at": _SIDE - spread.at(tick), "text": f"{tick:+.3g}"} for tick in spread.ticks],
        "zero": _SIDE - spread.at(0.0),
        "mean": _SIDE - spread.at(found.value),
        "side": _SIDE,
        "border": _BORDER,
        "cases": [(title, point) for title, point in zip(("worst", "median", "best"), _three(ordered), strict=False)],
    }


def points_of(metric: str, first: Source, last: Source) -> list[Point]:
    """Pair the values of the cases that both sources have, measured against the same annotation."""
    size = abs if is_signed(metric) else float
    return [
        Point(case, size(float(first.rows[case][metric])), size(float(last.rows[case][metric])))
        for case in same_cases(metric, first.rows, last.rows)
    ]


def _three(ordered: Sequence[Point]) -> list[Point]:
    """Return the first, the middle and the last, each case once."""
    places = dict.fromkeys((0, len(ordered) // 2, len(ordered) - 1))
    return [ordered[place] for place in places]


def _bars(ordered: Sequence[Point], axis: _Axis, first: Source, last: Source) -> Iterator[dict[str, Any]]:
    """Give one bar for each case, the worst difference first."""
    width = (_SIDE - 2 * _BORDER) / len(ordered)
    for place, point in enumerate(ordered):
        ends = sorted((axis.at(0.0), axis.at(point.difference)))
        yield {
            "x": round(_BORDER + place * width, 2),
            "width": round(max(0.8 * width, 0.5), 2),
            "y": round(_SIDE - ends[1], 2),
            "height": round(max(ends[1] - ends[0], 0.6), 2),
            "text": _text(point, first, last),
        }


def _text(point: Point, first: Source, last: Source) -> str:
    return (
        f"{point.case}: {first.name} {point.first:.3f}, {last.name} {point.last:.3f}, "
        f"difference {point.difference:+.3f}"
    )


@dataclass(frozen=True)
class _Axis:
    """A linear axis of a figure, from the lowest to the highest value."""

    low: float
    high: float
    ticks: Sequence[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> _Axis:
        """Fit an axis with round ticks around values."""
        from matplotlib.ticker import MaxNLocator

        low, high = min(values), max(values)
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5
        ticks = MaxNLocator(5).tick_values(low, high)
        low, high = min(low, ticks[0]), max(high, ticks[-1])
        return cls(float(low), float(high), [float(tick) for tick in ticks])

    def at(self, value: float) -> float:
        """Return the place of a value in pixels from the start of the figure."""
        share = (value - self.low) / (self.high - self.low)
        return round(_BORDER + share * (_SIDE - 2 * _BORDER), 2)


def _pictures(figure: Mapping[str, Any], specs: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Draw the worst, median and best case of a metric as both sources predict them.

    Returns:
        for each case its title and the ``data:`` URL of a picture of each source; and a note on why there are none.
    """
    try:
        models = [_opened(spec) for spec in specs]
        found = []
        for title, point in figure["cases"]:
            drawn = [_drawn(*model, point.case) for model in models]
            found.append({"title": title, "case": point.case, "point": point, "pictures": drawn})
        return found, ""
    except CphlocError as error:
        return [], f"Pictures of these cases need the test cases on this machine: {error}"


def _opened(spec: str) -> tuple[Any, dict[str, Any]]:
    """Load a model, and the test cases of its data set by their names."""
    from cphloc.data.pipeline.pipeline import open_dataset
    from cphloc.zoo.load import load

    model = load(spec)
    dataset = open_dataset(model.recipe.data, model.recipe.dims)
    return model, {case.id: case for split in ("test", "val", "train") for case in dataset.cases(split)}


def _drawn(model: Any, cases: Mapping[str, Any], name: str) -> str:
    from cphloc.errors import DataError
    from cphloc.evaluation.files import draw_predicted

    if name not in cases:
        msg = f"the data set has no case '{name}'"
        raise DataError(msg)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.png"
        draw_predicted(model, cases[name], model.made_by[0], path)
        return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


_STYLE = """.figures { display: flex; flex-wrap: wrap; gap: 1.5rem; margin-bottom: 1rem; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .85rem; max-width: 420px; }
svg { width: 420px; max-width: 100%; height: auto; background: var(--sheet); border: 1px solid var(--line);
  border-radius: .7rem; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .axis { stroke: var(--soft); } svg .same { stroke: var(--soft); stroke-dasharray: 4 4; }
svg .dot { fill: var(--mark); fill-opacity: .65; } svg .bar { fill: var(--mark); }
svg .mean { stroke: var(--good); stroke-width: 2; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
.pair img { width: 100%; border-radius: .4rem; background: #fff; }
"""
