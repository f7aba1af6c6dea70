"""The table of published entries, for the README and the site, and the model card of every entry as a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_text import plain, table

from cphloc import list_entries
from cphloc.publishing.card import beats_baseline, format_metric
from cphloc.zoo.entries import Listing
from cphloc.zoo.entry import Entry

ZOO = Path(__file__).parent.parent.parent / "zoo"


def pages() -> Iterator[tuple[str, str | bytes]]:
    """Yield the page of the zoo, and of each entry its card with the files that it links to."""
    yield "reference/zoo.md", _page()
    for found in newest():
        folder = Path(found.place)
        card = (folder / "card.md").read_text(encoding="utf-8")
        files = sorted({link for link in re.findall(r"\]\(([^)#:]+)\)", card) if (folder / link).is_file()})
        place = f"reference/zoo/{found.name}"
        yield f"{place}/index.md", card
        for file in files:
            yield f"{place}/{file}", (folder / file).read_bytes()


def newest() -> list[Listing]:
    """Return the newest version of every entry that ships, by name."""
    return list_entries(zoos=[str(ZOO)])


def entry_table(link: str) -> str:
    """Return the table of the newest entries: headline metric, its interval and the baseline.

    Args:
        link: address of an entry's card, with ``{name}`` and ``{version}``.
    """
    head = ("entry", "what", "parameters", "headline, 95 % interval", "baseline", "above the baseline")
    return table(head, (_row(found.entry, link) for found in newest()))


def _row(entry: Entry, link: str) -> tuple[str, ...]:
    name, metric = entry.headline
    split = f"{metric.n} {'cases' if entry.evaluation.split != 'test' else 'test cases'}"
    baseline = entry.baseline.metrics.get(name)
    gain = entry.baseline.paired.get(name)
    beaten = {True: "yes", False: "**no**", None: "unknown"}[beats_baseline(entry, name)]
    return (
        f"[{entry.name}]({link.format(name=entry.name, version=entry.version)}) {entry.version}",
        f"{plain(entry.summary)}; {entry.dims}-D {', '.join(entry.modality)}",
        f"{entry.size.parameters / 1e6:.1f} M",
        f"{name} {format_metric(metric)}, {split}",
        f"{format_metric(baseline)}" if baseline else "not measured",
        f"{beaten}, by {format_metric(gain)}" if gain else beaten,
    )


def _page() -> str:
    return (
        "# Entries of the zoo\n\nThe newest version of every entry that ships with cphloc. The baseline ignores the "
        "image: it repeats the average training annotation. An entry is above its baseline where the 95 % interval of "
        "the paired difference lies above 0, or, for entries published without paired differences, where the two "
        "intervals are apart.\n\n" + entry_table("zoo/{name}/index.md")
    )
