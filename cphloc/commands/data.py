"""``cphloc data``: lists data sets with licence and place, and fetches them."""

from __future__ import annotations

import argparse
from typing import Any

from cphloc import paths, registry
from cphloc.commands import Answer, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    below = parser.add_subparsers(dest="action", metavar="list|fetch", required=True)
    below.add_parser("list", help="data sets, licence, source, and where they are")
    fetch = below.add_parser("fetch", help="download a data set; resumes, checks")
    fetch.add_argument("name", metavar="NAME", help="name of a data set")


def run(options: argparse.Namespace) -> Answer:
    """List, or fetch one."""
    return _list() if options.action == "list" else _fetch(options.name)


def _list() -> Answer:
    facts = [_facts(name) for name in registry.cards("dataset")]
    rows = [(f["name"], f["licence"], f["place"] or "-", f["summary"]) for f in facts]
    return Answer(table(rows), facts)


def _facts(name: str) -> dict[str, Any]:
    card = registry.card("dataset", name)
    places = [folder / name for folder in paths.data_folders() if (folder / name).is_dir()]
    return {
        "name": name,
        "summary": card.summary,
        "licence": card.licence,
        "citation": card.citation,
        "url": card.url,
        "classes": card.classes,
        "splits": card.splits,
        "place": str(places[0]) if places else None,
    }


def _fetch(name: str) -> Answer:
    from cphloc.data.fetch import fetch

    folder = fetch(name)
    card = registry.card("dataset", name)
    return Answer(f"{folder}\nlicence: {card.licence}\ncite: {card.citation}", _facts(name))
