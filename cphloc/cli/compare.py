"""``cphloc compare``: entries or runs side by side, with intervals and a paired test."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cphloc.cli.result import Answer, table

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


def run(options: argparse.Namespace) -> Answer:
    """Tabulate the metrics of all sources, and the difference of the last and the first on the cases that both have."""
    from cphloc.publishing.compare import compare

    sources, lines = compare(options.sources)
    head = ("metric", *(source.name for source in sources), *_DIFFERENCE)
    rows = [(line.metric, *map(_metric, line.values), *_difference(line.difference)) for line in lines]
    facts = {
        "sources": [source.name for source in sources],
        "metrics": {
            line.metric: {"values": line.values, "difference": line.difference and line.difference._asdict()}
            for line in lines
        },
    }
    return Answer(table([head, *rows]), facts)


def _metric(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    value = found["value"]
    shown = f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{shown} [{found['low']:.3f}, {found['high']:.3f}]" if "low" in found else shown


def _difference(found: Difference | None) -> tuple[str, ...]:
    """Cells of `_DIFFERENCE`; empty for a metric that no case has by itself, such as AP."""
    if found is None:
        return ("",) * len(_DIFFERENCE)
    low, high = f"{found.low:+.4f}", f"{found.high:+.4f}"
    return f"{found.value:+.4f}", f"[{low}, {high}]", f"{found.p_value:.3f}", str(found.n)
