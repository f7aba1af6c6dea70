"""An HTML page of a model in a screening programme: today's funnel, and what each way of using the model changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cphloc.files import atomic
from cphloc.inference.html_page import html_page, rendered
from cphloc.metrics.screening_effects import with_interval
from cphloc.metrics.screening_impact import QUANTITIES

_TEMPLATE = Path(__file__).with_name("templates") / "screening.html"


def write_screening_report(path: str | Path, facts: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        path: file to write.
        facts: what ``cphloc screen --json`` prints.
    """
    today = facts["ways"][0]
    people = today["true_positive"] + today["false_positive"] + today["false_negative"] + today["true_negative"]
    counts = {
        "screened": people,
        **{name: today[name]["value"] for name in ("recalled", "biopsied", "found", "missed")},
    }
    body = rendered(
        _TEMPLATE,
        model=facts["model"],
        source=facts["source"],
        rates=[(name, with_interval(name, facts[name])) for name in ("sensitivity", "specificity")],
        classes=facts.get("classes", []),
        counts={name: f"{count:,.6g}" for name, count in counts.items()},
        head=("way of screening", *(name.replace("_", " ") for name in QUANTITIES)),
        ways=[(way["name"], *(with_interval(name, way[name]) for name in QUANTITIES)) for way in facts["ways"]],
        located=[way["name"] for way in facts["ways"] if way["needs_location"]],
        groups=[(column, _groups(of)) for column, of in facts.get("by", {}).items()],
        today=[(name, f"{low:.3f} to {high:.3f}") for name, (low, high) in facts["today"].items()],
        justified_from=facts["justified_from"],
    )
    with atomic(path) as temporary:
        temporary.write_text(html_page(f"{facts['model']} in a screening programme", body), encoding="utf-8")


def _groups(groups: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of the table of one column."""
    return [
        (group, of["cases"], of["with_finding"], *(with_interval(k, of[k]) for k in ("sensitivity", "specificity")))
        for group, of in groups.items()
    ]
