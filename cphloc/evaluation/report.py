"""An HTML page of an evaluation: metrics, groups, options, and the worst cases with pictures, worst first."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cphloc.data.case import Case
from cphloc.evaluation.files import draw_predicted
from cphloc.evaluation.pictures import drawing, heading, ranked
from cphloc.evaluation.scores import Scores
from cphloc.files import atomic
from cphloc.inference.html_page import html_page, rendered
from cphloc.inference.localizer import Localizer
from cphloc.metrics.explanation import METHODS, METRICS, SANITY, SANITY_TEXT
from cphloc.structures.options import TRIAL_COLUMNS, trial_row

WORST = 10
"""Number of cases that are drawn."""
_TEMPLATE = Path(__file__).with_name("templates") / "report.html"


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
    titles = {id: heading(str(place), id, name, scores.rows) for place, id in enumerate(order[:WORST], start=1)}
    body = rendered(
        _TEMPLATE,
        model=made_by,
        split=facts["split"].replace("_", " "),
        cases=len(scores.cases),
        tables=list(_tables(facts, name)),
        metric=name,
        worst=[(title, _picture(draw, id, title)) for id, title in titles.items()],
    )
    with atomic(path) as temporary:
        temporary.write_text(html_page(f"Evaluation of {made_by}", body), encoding="utf-8")


def _picture(draw: Draw, id: str, title: str) -> str:
    """Draw a case; return the picture as URL, empty where it cannot be drawn."""
    with tempfile.TemporaryDirectory() as folder, drawing(id):
        file = Path(folder) / "case.png"
        draw(id, title, file)
        return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
    return ""


def _tables(facts: Mapping[str, Any], name: str) -> Iterator[tuple[str, Sequence[str], Sequence[Sequence[Any]]]]:
    """Give title, head and rows of each table."""
    yield "Metrics", ("metric", "value", "cases", "why"), _metrics(facts["metrics"], facts["recommended"])
    names = list(facts["recommended"]) or [name]
    if (oracle := facts.get("oracle")) is not None:
        rows = [
            (n, span(facts["metrics"][n]), span(of)) for n, of in oracle["metrics"].items() if n in facts["metrics"]
        ]
        yield "Last stage", ("metric", "as it runs", "in the true crop"), rows
        crops = [(name, m, span(of)) for name, st in facts["stages"].items() for m, of in (st["crop"] or {}).items()]
        yield "Crops", ("stage", "of its crop", "value"), crops
    if (explained := facts.get("explanation")) is not None:
        maps = [(m, METHODS[m], *(span(of[n]) for n in METRICS)) for m, of in explained["methods"].items()]
        yield "Attention as an explanation", ("map", "what it is", *METRICS), maps
        sanity = "Rank correlation of the attention with that of random weights", span(explained[SANITY]), SANITY_TEXT
        yield "Does the attention depend on what was learned?", ("what", "value", "meaning"), [sanity]
    for column, groups in facts["by"].items():
        yield f"By {column}", ("group", "cases", "patients", *names), _groups(groups, names)
    if facts["options"] is not None and facts["options"]["trials"]:
        yield "Options tried outside the test cases", TRIAL_COLUMNS, list(map(trial_row, facts["options"]["trials"]))


def _metrics(metrics: Mapping[str, Any], why: Mapping[str, str]) -> list[Sequence[Any]]:
    first = sorted(metrics, key=lambda name: name not in why)
    return [(n, span(metrics[n]), metrics[n]["n"], why.get(n, "")) for n in first]


def _groups(groups: Mapping[str, Any], names: Sequence[str]) -> list[Sequence[Any]]:
    return [
        (group, of["cases"], of["patients"], *(span(of["metrics"][n]) if n in of["metrics"] else "-" for n in names))
        for group, of in groups.items()
    ]


def span(metric: Mapping[str, Any]) -> str:
    """Format a metric of an evaluation with its interval.

    >>> span({"value": 0.81234, "low": 0.7, "high": 0.9})
    '0.812 [0.700, 0.900]'
    """
    if metric["value"] is None:
        return "-"
    ends = "" if metric["low"] is None else f" [{metric['low']:.3f}, {metric['high']:.3f}]"
    return f"{metric['value']:.3f}{ends}"
