"""``cphloc data``: list data sets with licence and folder, download one, or begin a table of one's own."""

from __future__ import annotations

import argparse
import fnmatch
from pathlib import Path
from typing import Any

from cphloc import paths
from cphloc.cli.result import Answer, table
from cphloc.data.case_table import COLUMNS, explanation, header
from cphloc.errors import InputError
from cphloc.files import atomic
from cphloc.registry import catalogue

_ACTIONS = "list the data sets, download one (fetch), or begin a cases.csv for your own data (template)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("action", choices=("list", "fetch", "template"), help=_ACTIONS)
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="data set to fetch; for list, a name with wildcards; for template, file to write",
    )


def run(options: argparse.Namespace) -> Answer:
    """List the data sets, download one, or write the header of a table and explain its columns."""
    if options.action == "template":
        return _template(options.name)
    if options.action == "list":
        return _list(options.name)
    if options.name is None:
        msg = "cphloc data fetch needs the name of a data set; see cphloc data list"
        raise InputError(msg)
    return _fetch(options.name)


def _template(file: str | None) -> Answer:
    """Explain the columns of ``cases.csv``; with a file name, also write an empty table."""
    facts = {"columns": COLUMNS, "file": file}
    if file is None:
        return Answer(f"{explanation()}\n\n{header()}", facts)
    path = Path(file)
    if path.exists():
        msg = f"{path}: exists; choose another name"
        raise InputError(msg)
    with atomic(path) as temporary:
        temporary.write_text(header(), encoding="utf-8")
    return Answer(f"{explanation()}\n\nwrote {path}; fill one row per image, then: cphloc plan {path.parent}", facts)


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
