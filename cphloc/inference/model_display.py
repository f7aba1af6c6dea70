"""The representation of a model that predicts: what it takes, what it gives, and how good it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cphloc.errors import counted
from cphloc.inference.inputs import Inputs
from cphloc.recipe.recipe import Recipe
from cphloc.structures.display import Display, chart_html, image_html, listed, with_interval
from cphloc.structures.options import Options


def model_display(
    title: str, recipe: Recipe, inputs: Inputs, classes: Mapping[int, str], options: Options, extra: Sequence = ()
) -> Display:
    """Return the representation of one or more models for the same images.

    Args:
        title: one line that names the model.
        recipe: its recipe.
        inputs: the channels that it takes.
        classes: foreground classes, number -> name.
        options: what its predictions apply by default.
        extra: further rows, label and value.
    """
    spacing = recipe.data.spacing_mm
    grid = "the image's own grid" if spacing is None else f"{' × '.join(f'{s:g}' for s in spacing)} mm"
    parts = [recipe.model.backbone.type, *([recipe.model.neck.type] if recipe.model.neck else [])]
    parts += [f"{name} ({head.type})" for name, head in recipe.model.heads.items()]
    stated = options.model_dump(exclude_defaults=True)
    rows = [
        ("task", f"{recipe.task} in {recipe.dims}-D"),
        ("takes", listed([f"{name}: {channel.description}" for name, channel in inputs.channels.items()])),
        ("classes", listed([f"{number} {name}" for number, name in classes.items()])),
        ("grid", f"{grid}, windows of {' × '.join(map(str, recipe.data.patch or ()))}"),
        ("network", " → ".join(parts)),
        *extra,
        ("applies", listed([f"{name.replace('_', ' ')} {_plain(value)}" for name, value in stated.items()])),
    ]
    return Display(title, rows)


def _plain(value: Any) -> str:
    """Format a value or a mapping of values, numbers with three digits."""
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def entry_rows(entry: Any | None) -> list[tuple[str, str]]:
    """Return a row with the headline metric of an entry; none for a model that is not published."""
    if entry is None:
        return []
    name, metric = entry.headline
    baseline = entry.baseline.metrics.get(name)
    beside = "" if baseline is None or baseline.value is None else f"; baseline {baseline.value:.3f}"
    split = entry.evaluation.split.replace("_", " ")
    return [(name, f"{with_interval(metric.model_dump())} on {counted(metric.n, 'case')} of the {split} split{beside}")]


def entry_picture(entry: Any | None, listing: Any | None) -> Callable[[], str]:
    """Return a function that gives the HTML of an entry's picture: its median case, or its metrics as a chart."""

    def picture() -> str:
        """Return the median case of the entry, else a chart of its metrics."""
        if entry is None:
            return ""
        name = f"pictures/{entry.evaluation.split}-median.png"
        if listing is not None and name in entry.files and not isinstance(listing.place, str):
            return image_html(listing.place / name, f"median case of {entry}")
        of = entry.evaluation.metrics, entry.baseline.metrics
        return chart_html(*({key: metric.model_dump() for key, metric in metrics.items()} for metrics in of))

    return picture
