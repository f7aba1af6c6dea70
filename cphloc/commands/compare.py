"""``cphloc compare``: entries or runs side by side, with intervals and a paired test."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cphloc.commands import Answer, table

if TYPE_CHECKING:
    from cphloc.metrics.bootstrap import Difference


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("sources", metavar="ENTRY-or-RUN", nargs="+", help="entries, or evaluated runs")


def run(options: argparse.Namespace) -> Answer:
    """Compare; the difference is the last minus the first on the cases they share."""
    from cphloc.zoo.compare import compare

    sources, lines = compare(options.sources)
    head = ("metric", *(source.name for source in sources), "difference (last - first)")
    rows = [(line.metric, *map(_metric, line.values), _difference(line.difference)) for line in lines]
    facts = {
        "sources": [source.name for source in sources],
        "metrics": {
            line.metric: {"values": line.values, "difference": line.difference and line.difference._asdict()}
            for line in lines
        },
    }
    return Answer(table([head, *rows]), facts)


def _metric(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _difference(found: Difference | None) -> str:
    if found is None:
        return "-"
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}), p = {found.p_value:.2g}, n = {found.n}"
