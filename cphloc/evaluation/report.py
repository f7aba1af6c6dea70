"""An HTML page of an evaluation: metrics, groups, options, and the worst cases with pictures, worst first."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cphloc.data.case import Case
from cphloc.evaluation.files import draw_predicted
from cphloc.evaluation.pictures import drawing, heading, ranked
from cphloc.evaluation.scores import Scores
from cphloc.files import atomic
from cphloc.inference.html_page import html_page
from cphloc.inference.localizer import Localizer
from cphloc.structures.options import TRIAL_COLUMNS, trial_row

WORST = 10
"""Number of cases that are drawn."""


Draw = Callable[[str, str, Path], None]
"""``draw(id, title, path)``: draws a case with its annotation and its prediction."""


def drawer(localizer: Localizer, cases: Sequence[Case]) -> Draw:
    """Return a function that predicts one of the cases again and draws it."""
    by_id = {case.id: case for case in cases}
    return lambda id, title, path: draw_predicted(localizer, by_id[id], title, path)


def write_report(path: Path, made_by: str, headline: str, scores: Scores, facts: Mapping[str, Any], draw: Draw) -> None:
    """Write the page, which holds its pictures.

    Args:
        path: file to write.
        made_by: name of the model.
        headline: metric by which the worst cases are chosen.
        scores: of all cases.
        facts: content of ``evaluation-<split>.json``.
        draw: draws a case.
    """
    name, order = ranked(scores.rows, headline)
    split = facts["split"].replace("_", " ")
    parts = [f"<h1>{escape(made_by)}: {split} split, {len(scores.cases)} cases</h1>"]
    parts += ["<h2>Metrics</h2>", _metrics(facts["metrics"], facts["recommended"])]
    for column, groups in facts["by"].items():
        parts += [f"<h2>By {escape(column)}</h2>", _groups(groups, list(facts["recommended"]) or [name])]
    if facts["options"] is not None and facts["options"]["trials"]:
        rows = map(trial_row, facts["options"]["trials"])
        parts += ["<h2>Options tried outside the test cases</h2>", _table(TRIAL_COLUMNS, rows)]
    parts.append(f"<h2>Worst cases by {escape(name)}</h2>")
    for place, id in enumerate(order[:WORST], start=1):
        parts.append(_picture(draw, id, heading(str(place), id, name, scores.rows)))
    with atomic(path) as temporary:
        temporary.write_text(html_page(f"Evaluation of {made_by}", "\n".join(parts)), encoding="utf-8")


def _picture(draw: Draw, id: str, title: str) -> str:
    """Draw a case; its title alone where it cannot be drawn."""
    with tempfile.TemporaryDirectory() as folder, drawing(id):
        file = Path(folder) / "case.png"
        draw(id, title, file)
        content = base64.b64encode(file.read_bytes()).decode()
        return f'<h3>{escape(title)}</h3><img alt="{escape(title)}" src="data:image/png;base64,{content}">'
    return f"<h3>{escape(title)}</h3>"


def _metrics(metrics: Mapping[str, Any], why: Mapping[str, str]) -> str:
    first = sorted(metrics, key=lambda name: name not in why)
    return _table(
        ("metric", "value", "cases", "why"), ((n, span(metrics[n]), metrics[n]["n"], why.get(n, "")) for n in first)
    )


def _groups(groups: Mapping[str, Any], names: Sequence[str]) -> str:
    rows = (
        (group, of["cases"], of["patients"], *(span(of["metrics"][n]) if n in of["metrics"] else "-" for n in names))
        for group, of in groups.items()
    )
    return _table(("group", "cases", "patients", *names), rows)


def span(metric: Mapping[str, Any]) -> str:
    """Format a metric of an evaluation with its interval.

    >>> span({"value": 0.81234, "low": 0.7, "high": 0.9})
    '0.812 [0.700, 0.900]'
    """
    if metric["value"] is None:
        return "-"
    ends = "" if metric["low"] is None else f" [{metric['low']:.3f}, {metric['high']:.3f}]"
    return f"{metric['value']:.3f}{ends}"


def _table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(str(cell))}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return f'<div class="scroll" tabindex="0"><table>{"".join(lines)}</table></div>'
