"""``cphloc data``: list data sets, download one, look at what is in one, or begin a table of one's own."""

from __future__ import annotations

import argparse
import fnmatch
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc import paths
from cphloc.cli.result import Answer, overrides, table
from cphloc.data.case_table import COLUMNS, explanation, header
from cphloc.errors import InputError
from cphloc.files import atomic
from cphloc.registry import catalogue

if TYPE_CHECKING:
    from cphloc.data.inspection.source import Source

_ACTIONS = (
    "list the data sets; download one (fetch); read every case of one and list the suspicious ones (check); show one "
    "case (look); begin a cases.csv for your own data (template)"
)
_SHOWN = 20
"""Suspicious cases that are printed; all are in the page and in the JSON."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("action", choices=("list", "fetch", "check", "look", "template"), help=_ACTIONS)
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="data set to fetch; for check and look, DATA: name of a data set, a recipe, or a folder as cphloc plan "
        "takes it; for list, a name with wildcards; for template, file to write",
    )
    parser.add_argument("case", metavar="CASE", nargs="?", help="for look: the case to show")
    what = "for check and look: an argument of the data set, or a value of the recipe; repeatable"
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=what)
    copy = "for fetch: build the data set from what you downloaded by hand, the archive of its source or its folder"
    parser.add_argument("--from", metavar="FOLDER_OR_ARCHIVE", type=Path, dest="copy", help=copy)
    parser.add_argument("--dims", type=int, choices=(2, 3), help="for check and look: 2-D or 3-D, as in cphloc plan")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="page (.html) that check writes, or picture (.png) that look writes; by default named after the data",
    )


def run(options: argparse.Namespace) -> Answer:
    """Run one of the actions."""
    if options.case is not None and options.action != "look":
        msg = f"cphloc data {options.action} takes one name; '{options.case}' is left over"
        raise InputError(msg)
    if options.copy is not None and options.action != "fetch":
        msg = f"cphloc data {options.action} takes no --from; it belongs to cphloc data fetch"
        raise InputError(msg)
    if options.action == "template":
        return _template(options.name)
    if options.action == "list":
        return _list(options.name)
    if options.name is None:
        msg = f"cphloc data {options.action} needs the name of a data set; see cphloc data list"
        raise InputError(msg)
    if options.action == "check":
        return _check(options)
    return _look(options) if options.action == "look" else _fetch(options.name, options.copy)


def _source(options: argparse.Namespace) -> Source:
    """Open the data set: of a recipe where ``DATA`` is a YAML file or names a shipped recipe and no data set."""
    from cphloc.data.inspection.source import Source
    from cphloc.recipe.merge import shipped_recipes

    path, known = Path(options.name).expanduser(), options.name in catalogue.cards("dataset")
    named = {name for full in shipped_recipes() for name in (full, full.rpartition("/")[2])}
    if not path.is_dir() and not known and (path.suffix in (".yaml", ".yml") or options.name in named):
        from cphloc.zoo.starting import load_recipe

        return Source.of_recipe(load_recipe(options.name, overrides(options)))
    return Source.of_data(options.name, overrides(options), options.dims)


def _default(options: argparse.Namespace, *parts: str) -> Path:
    """File in the working folder that is named after the data."""
    stem = Path(options.name).resolve().name.removesuffix(".yaml")
    return options.out or Path(re.sub(r"[^\w.-]+", "-", "-".join([stem, *parts[:-1]])) + parts[-1])


def _check(options: argparse.Namespace) -> Answer:
    from cphloc.data.inspection.check import check_data
    from cphloc.publishing.data_page import write_page

    report, page = check_data(_source(options)), _default(options, "check", ".html")
    write_page(page, report)
    lines = [table(report.rows), ""]
    if report.suspicious:
        rows = [(c.case.id, c.split, "; ".join(f.text for f in c.findings)) for c in report.suspicious[:_SHOWN]]
        more = len(report.suspicious) - _SHOWN
        lines += [table([("suspicious case", "split", "reasons"), *rows])]
        lines += [f"and {more} more" if more > 0 else "", table([(n, kind) for kind, n in report.kinds.most_common()])]
    else:
        lines.append("no case is suspicious")
    bad = len(report.unreadable)
    lines += ["", f"{len(report.suspicious)} of {len(report.cases)} cases are suspicious, {bad} cannot be read: {page}"]
    return Answer("\n".join(lines), {**report.facts, "page": str(page)}, exit_code=1 if bad else 0)


def _look(options: argparse.Namespace) -> Answer:
    from cphloc.data.inspection.look import look

    if options.case is None:
        msg = f"cphloc data look {options.name} needs the name of a case; cphloc data check {options.name} lists them"
        raise InputError(msg)
    seen = look(_source(options), options.case)
    if seen.examined.image is None:
        return Answer(table(seen.rows), seen.facts, exit_code=1)
    picture = _default(options, options.case, ".png")
    seen.draw(picture)
    return Answer(f"{table(seen.rows)}\n\n{picture}", {**seen.facts, "picture": str(picture)})


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
        "cautions": card.cautions,
        "place": str(places[0]) if places else None,
    }


def _fetch(name: str, copy: Path | None) -> Answer:
    from cphloc.data.fetch import fetch

    folder = fetch(name, copy)
    card = catalogue.card("dataset", name)
    return Answer(f"{folder}\nlicence: {card.licence}\ncite: {card.citation}", _facts(name))
