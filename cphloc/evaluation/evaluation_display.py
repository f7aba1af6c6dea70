"""The representation of an evaluation: its metrics beside those of the baseline, and the median case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cphloc.errors import counted
from cphloc.registry.metrics import is_signed
from cphloc.structures.display import Display, chart_html, image_html, with_interval


def evaluation_display(source: str, split: str, facts: Mapping[str, Any], folder: Path | None) -> Display:
    """Return the representation of an evaluation.

    Args:
        source: folder of the run, or name of the entry.
        split: the split that was evaluated.
        facts: content of ``evaluation-<split>.json``.
        folder: folder with its files; ``None`` if none were written.
    """
    beside = (facts.get("baseline") or {}).get("metrics", {})
    gains = (facts.get("paired") or {}).get("metrics", {})
    metrics = facts["metrics"]
    first = [name for name in facts.get("recommended", {}) if name in metrics]
    ordered = dict.fromkeys([*first, *metrics])
    rows = [(name, _row(name, metrics[name], beside.get(name), gains.get(name))) for name in ordered]

    def picture() -> str:
        """Return the median case, where there is a picture of it, and a chart of the metrics."""
        drawn = "" if folder is None else image_html(folder / f"pictures/{split}-median.png", "median case")
        return drawn + chart_html({name: metrics[name] for name in ordered}, beside)

    cases = f"{counted(len(facts['cases']), 'case')} of {counted(facts['patients'], 'patient')}"
    return Display(f"Evaluation of {source} on {split.replace('_', ' ')}: {cases}", rows, picture)


def _row(
    name: str, found: Mapping[str, Any], baseline: Mapping[str, Any] | None, gain: Mapping[str, Any] | None
) -> str:
    """Format a metric, that of the baseline, and their paired difference."""
    parts = [with_interval(found)]
    parts += [f"baseline {with_interval({**baseline, 'low': None})}"] if baseline else []
    what = "difference of |error|" if is_signed(name) else "difference"
    parts += [f"{what} {with_interval(gain, '+.3f')}"] if gain and gain["value"] is not None else []
    return "; ".join(parts)
