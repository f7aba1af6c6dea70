"""``cphloc data``: list data sets with licence and folder, or download one."""

from __future__ import annotations

import argparse
import fnmatch
from typing import Any

from cphloc import paths
from cphloc.cli.result import Answer, table
from cphloc.errors import InputError
from cphloc.registry import catalogue


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("action", choices=("list", "fetch"), help="list the data sets, or download one (fetch)")
    parser.add_argument("name", metavar="NAME", nargs="?", help="data set to fetch; for list, a name with wildcards")


def run(options: argparse.Namespace) -> Answer:
    """List the data sets, or download one."""
    if options.action == "list":
        return _list(options.name)
    if options.name is None:
        msg = "cphloc data fetch needs the name of a data set; see cphloc data list"
        raise InputError(msg)
    return _fetch(options.name)


def _list(pattern: str | None) -> Answer:
    names = [n for n in catalogue.cards("dataset") if pattern is None or fnmatch.fnmatchcase(n, pattern)]
    facts = [_facts(name) for name in names]
    rows = [(f["name"], f["licence"], f["place"] or "-", f["summary"]) for f in facts]
    return Answer(table(rows), facts)


def _facts(name: str) -> dict[str, Any]:
    card = catalogue.card("dataset", name)
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
    card = catalogue.card("dataset", name)
    return Answer(f"{folder}\nlicence: {card.licence}\ncite: {card.citation}", _facts(name))
