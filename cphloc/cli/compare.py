"""``cphloc compare``: entries or runs side by side, with intervals and a paired test."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.cli.result import Answer, table
from cphloc.registry.metrics import is_signed

if TYPE_CHECKING:
    from cphloc.metrics.bootstrap import Difference

_DIFFERENCE = ("last - first", "95 % interval", "p (paired)", "cases")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "sources",
        metavar="ENTRY-or-RUN",
        nargs="+",
        help="two or more entries or evaluated runs (id or folder), the reference first",
    )
    page = "also write a page: every case in both, paired differences, worst, median and best case side by side"
    parser.add_argument("--html", metavar="FILE", help=page)


def run(options: argparse.Namespace) -> Answer:
    """Tabulate the metrics of all sources, and the difference of the last and the first on the cases that both have."""
    from cphloc.data.pipeline.seen import some
    from cphloc.publishing.checks import changed_cases
    from cphloc.publishing.compare import compare, other_tolerances

    sources, lines = compare(options.sources)
    changed = changed_cases(sources[0].rows, sources[-1].rows)
    head = ("metric", *(source.name for source in sources), *_DIFFERENCE)
    rows = [(_name(line.metric), *map(_metric, line.values), *_difference(line.difference)) for line in lines]
    facts = {
        "sources": [source.name for source in sources],
        "changed_cases": changed,
        "metrics": {
            line.metric: {"values": line.values, "difference": line.difference and line.difference._asdict()}
            for line in lines
        },
    }
    warning = []
    if changed:
        both = len(sources[0].rows.keys() & sources[-1].rows.keys())
        warning.append(
            f"{len(changed)} of {both} shared cases are not the same in both: their annotations have changed between "
            f"the evaluations ({some(changed)}). Differences are over the others; evaluate both again to compare all."
        )
    if (named := other_tolerances(sources[0], sources[-1])) and any("/nsd" in line.metric for line in lines):
        warning.append(f"nsd was measured with other tolerances ({some(named)}); no difference of it is stated")
    if options.html:
        from cphloc.publishing.compare_page import write_compare_page

        write_compare_page(Path(options.html), options.sources, sources, lines, [head, *rows])
        warning.append(f"written to {options.html}")
        facts["page"] = options.html
    return Answer("\n".join([*warning, table([head, *rows])]), facts)


def _name(metric: str) -> str:
    """Name of a metric; the differences of a signed error are those of its distance from 0."""
    return f"{metric} (difference of |error|)" if is_signed(metric.partition("/")[2]) else metric


def _metric(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    value = found["value"]
    shown = f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{shown} [{found['low']:.3f}, {found['high']:.3f}]" if found.get("low") is not None else shown


def _difference(found: Difference | None) -> tuple[str, ...]:
    """Cells of `_DIFFERENCE`; empty for a metric that no case has by itself, such as AP."""
    if found is None:
        return ("",) * len(_DIFFERENCE)
    span = "one patient" if math.isnan(found.low) else f"[{found.low:+.4f}, {found.high:+.4f}]"
    return f"{found.value:+.4f}", span, f"{found.p_value:.3f}", str(found.n)
