"""``cphloc show``: show a component's arguments and contract, or an entry's metadata."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cphloc.cli.result import Answer, table
from cphloc.config import yamlio
from cphloc.config.argument_schema import words
from cphloc.config.signature import Argument
from cphloc.data.io.formats import FORMATS
from cphloc.errors import NotFoundError
from cphloc.registry import catalogue
from cphloc.registry.card import Card
from cphloc.registry.kinds import ALL, Kind, plural, singular

if TYPE_CHECKING:
    from cphloc.zoo.entry import Entry


_EXAMPLE = "docs/plugin-example"

MEASURED = ("backbone", "neck", "head", "loss", "suppression")
"""Kinds of whose components it is stated when they are worth it, or that this was not measured."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    what = (
        "a component such as unet or head/unet, a metric, a kind such as neck, an entry such as unet3d-ct@1.0.0, "
        "or 'formats' for the table of file formats"
    )
    parser.add_argument("name", metavar="NAME", help=what)


def run(options: argparse.Namespace) -> Answer:
    """Show the file formats, the contract of a kind, the components that have this name, or else the entry."""
    if options.name == "formats":
        return _formats()
    kind, _, name = options.name.rpartition("/")
    if singular(options.name) in ALL:
        return _kind(ALL[singular(options.name)])
    searched = [singular(kind)] if singular(kind) in ALL else ALL
    found = [catalogue.card(k, name) for k in searched if name in catalogue.cards(k) or singular(kind) == k]
    if not found:
        return _entry(options.name)
    facts = [_facts(card, catalogue.arguments(card)) for card in found]
    return Answer("\n\n".join(map(_text, facts)), facts if len(facts) > 1 else facts[0])


def _kind(kind: Kind) -> Answer:
    """Show what a card and a class of this kind must contain, and list the components of the kind."""
    file = f"{kind.name}.yaml, one entry each" if kind.table else f"{kind.name}/NAME.yaml"
    keys = ["summary", *(key.rstrip("_") for key in kind.needs), *kind.words]
    words = [(key, " or ".join(words)) for key, words in kind.words.items()]
    contract = inspect.cleandoc(kind.contract)
    names = list(catalogue.cards(kind.name))
    lines = [
        f"{kind.name}: {kind.summary}",
        "",
        table([("card", file), ("keys", ", ".join(dict.fromkeys(keys))), *words]),
        "",
        f"class{f' (inherits {kind.base.replace(chr(58), chr(46))})' if kind.base else ''}",
        textwrap.indent(contract, "  "),
        "",
        f"an example of each kind, to copy into a package of your own: {_EXAMPLE}",
        f"{plural(kind.name)}: {', '.join(names)}",
    ]
    facts = dataclasses.asdict(kind) | {"contract": contract, "members": names}
    return Answer("\n".join(lines), facts)


def _formats() -> Answer:
    """Show which files are read and written, and which state the voxel size in millimetres."""
    head = ("format", "content", "read", "written", "voxel size")
    rows = [
        (f.name, f.content, " ".join(f.read) or "-", " ".join(f.written) or "-", "in mm" if f.states_mm else "-")
        for f in FORMATS
    ]
    facts = [
        {"name": f.name} | {k: getattr(f, k) for k in ("content", "read", "written", "states_mm")} for f in FORMATS
    ]
    return Answer(table([head, *rows]), facts)


def _entry(name: str) -> Answer:
    from cphloc.zoo.resolve import names_an_entry, nearest, resolve_entry

    try:
        listing = resolve_entry(name)
        entry = listing.entry
    except NotFoundError as error:
        suggestion = nearest(name, (n for kind in ALL for n in catalogue.cards(kind)))
        if names_an_entry(name) or not suggestion:
            raise
        msg = f"no component or entry '{name}'; {suggestion}"
        raise NotFoundError(msg) from error
    facts = {**entry.model_dump(mode="json"), "superseded_by": listing.superseded_by or None}
    return Answer(table(_rows(_shortened(entry, facts))), facts)


def _shortened(entry: Entry, facts: dict[str, Any]) -> dict[str, Any]:
    """An entry's metadata with every metric and file on one line, and the number of cases in place of the list."""
    from cphloc.publishing.card import format_metric
    from cphloc.publishing.options import options_with_gain

    inputs = {name: channel.description for name, channel in entry.channel_inputs.items()}
    files = {name: f"{file.bytes:,} bytes, {file.sha256}" for name, file in entry.files.items()}
    shown = {**facts, "inputs": inputs, "fingerprint": _training_images(entry), "files": files}
    shown["options"] = options_with_gain(entry.options_applied, entry.options) or "none: the weights alone"
    measured = {"evaluation": entry.evaluation, "baseline": entry.baseline, "tested": entry.tested}
    for part, table_of in measured.items():
        if table_of is None:
            continue
        metrics = {name: format_metric(m) for name, m in table_of.metrics.items()}
        per_class = {c: {n: format_metric(m) for n, m in of.items()} for c, of in table_of.per_class.items()}
        shown[part] = {**facts[part], "metrics": metrics, "per_class": per_class}
    shown["evaluation"]["cases"] = f"{len(entry.evaluation.cases)}, see cases.csv"
    if entry.tested is not None:
        paired = {name: format_metric(gain) for name, gain in entry.tested.paired.items()}
        shown["tested"] |= {"paired": paired, "cases": len(entry.tested.cases)}
    return shown


def _training_images(entry: Entry) -> dict[str, str] | None:
    """Intensities and extents of the training images, each on one line: median (least to largest)."""
    found = entry.fingerprint
    if found is None:
        return None
    ranges = {name: f"mostly {c.low.median:.4g} to {c.high.median:.4g}" for name, c in found.channels.items()}
    spreads = (f"{s.median:.4g} ({s.least:.4g} to {s.largest:.4g})" for s in found.extent)
    return {**ranges, "extent": f"{' x '.join(spreads)} {found.unit}"}


def _rows(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested metadata to pairs of a dotted key and a value; empty values are left out."""
    if isinstance(value, dict):
        for below, inner in value.items():
            yield from _rows(inner, f"{key}.{below}".removeprefix("."))
    elif value not in (None, "", []):
        yield key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _facts(card: Card, arguments: list[Argument]) -> dict[str, Any]:
    about = card.model_dump(by_alias=True, exclude_defaults=True, exclude={"signature"}) | {"dims": card.dims}
    if card.kind in MEASURED:
        about["measured"] = card.measured or "not measured"
    return about | {"arguments": [_argument(a) for a in arguments]}


def _argument(argument: Argument) -> dict[str, Any]:
    kind = argument.component
    what = words(argument.annotation) if kind is None else words(argument.annotation).replace("block", f"{kind} block")
    stated = {} if argument.required else {"default": argument.default}
    return {"name": argument.name, "type": what, "required": argument.required, **stated, "meaning": argument.meaning}


def _text(facts: dict[str, Any]) -> str:
    """Format a component as text; dims and arguments only for kinds that recipes can name."""
    about = {k: v for k, v in facts.items() if k not in ("kind", "name", "summary", "arguments")}
    in_recipes = ALL[facts["kind"]].block
    dims = " and ".join(f"{d}-D" for d in about.pop("dims"))
    lines = [f"{facts['kind']} {facts['name']}: {facts['summary']}", ""]
    lines.append(table(_rows(about | ({"dims": dims} if in_recipes else {}))))
    rows = [("  " + a["name"], a["type"], _default(a), a["meaning"]) for a in facts["arguments"]]
    if rows:
        lines += ["", "arguments", table(rows)]
    elif in_recipes:
        lines += ["", "no arguments"]
    return "\n".join(lines)


def _default(argument: dict[str, Any]) -> str:
    return "required" if argument["required"] else f"= {yamlio.inline(argument['default'])}"
