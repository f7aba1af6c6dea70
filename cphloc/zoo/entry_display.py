"""The representation of an entry: what it does, how good it is, and on what data it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cphloc.errors import counted
from cphloc.structures.display import Display, chart_html, listed, with_interval


def entry_display(facts: Mapping[str, Any]) -> Display:
    """Return the representation of an entry.

    Args:
        facts: content of ``entry.yaml``.
    """
    metrics, baseline = facts["evaluation"]["metrics"], facts["baseline"]["metrics"]
    name, metric = next(iter(metrics.items()))
    beside = f"; baseline {baseline[name]['value']:.3f}" if baseline.get(name, {}).get("value") is not None else ""
    split = facts["evaluation"]["split"].replace("_", " ")
    cases = ", ".join(f"{count} {part}" for part, count in facts["data"]["splits"].items())
    millions = facts["size"]["parameters"] / 1e6
    rows = [
        ("summary", facts["summary"]),
        ("task", f"{facts['task']} in {facts['dims']}-D, {', '.join(facts['modality'])}"),
        ("classes", listed([f"{number} {name}" for number, name in facts["classes"].items()])),
        (name, f"{with_interval(metric)} on {counted(metric['n'], 'case')} of the {split} split{beside}"),
        ("data", f"{facts['data']['name']} ({cases}), {facts['data']['licence']}"),
        ("size", f"{millions:.2f} million parameters, {facts['speed']['ms_per_case']:.0f} ms a case"),
        ("for", facts["intended_use"]),
        ("limits", facts["limits"][0]),
    ]
    return Display(f"Entry {facts['name']}@{facts['version']}", rows, lambda: chart_html(metrics, baseline))
