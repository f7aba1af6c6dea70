"""Reference pages of components, one per kind, from the cards and the signatures: the facts of ``cphloc show``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from markdown_text import code, plain, table

from cphloc.cli import show
from cphloc.config import yamlio
from cphloc.registry import catalogue
from cphloc.registry.kinds import ALL, Kind, plural

_TITLES = {"dataset": "Data sets", "loss": "Losses", "suppression": "Suppression", "measure": "Measures of studies"}
_ROWS = (
    "takes",
    "gives",
    "rung",
    "loss",
    "modality",
    "licence",
    "citation",
    "url",
    "paper",
    "measured",
    "requires",
    "import",
)


def pages() -> Iterator[tuple[str, str]]:
    """Yield one page per kind of component, and the overview of all of them."""
    for kind in ALL.values():
        yield f"reference/{kind.name}.md", _page(kind)
    yield "reference/index.md", _overview()


def _title(kind: Kind) -> str:
    return _TITLES.get(kind.name, plural(kind.name).capitalize())


def _overview() -> str:
    rows = [
        (f"[{_title(kind)}]({kind.name}.md)", plain(kind.summary), len(catalogue.cards(kind.name)))
        for kind in ALL.values()
    ]
    return (
        "# Reference\n\nThese pages are made from the docstrings, the cards in `registry/` and the commands, "
        "the same text that `cphloc show` and `cphloc help` print.\n\n"
        "- [Python](python.md): every public call\n- [Commands](commands.md): every command with its options\n"
        "- [Environment variables](environment.md)\n- [File formats](formats.md)\n- [Entries of the zoo](zoo.md)\n\n"
        "## Components\n\n" + table(("kind", "what one does", "how many"), rows)
    )


def _page(kind: Kind) -> str:
    names = list(catalogue.cards(kind.name))
    lines = [f"# {_title(kind)}", "", f"A {kind.name} {plain(kind.summary)}."]
    lines += ["", '??? note "What a class of this kind must offer"', "", "    ```text"]
    contract = show.run(Namespace(name=kind.name)).facts["contract"]
    lines += [f"    {line}" for line in contract.splitlines()] + ["    ```", ""]
    for name in names:
        lines += _component(show.run(Namespace(name=f"{kind.name}/{name}")).facts)
    return "\n".join(lines)


def _component(facts: dict[str, Any]) -> Iterator[str]:
    yield from (f"## {facts['name']}", "", f"{plain(facts['summary'])}.", "")
    about = [(key, _words(facts[key])) for key in _ROWS if facts.get(key) not in (None, "", [])]
    about = [(key, code(value) if key == "import" else plain(value)) for key, value in about]
    about.append(("dims", " and ".join(f"{d}-D" for d in facts["dims"])))
    yield table(("", ""), about)
    if facts["arguments"]:
        rows = [(code(a["name"]), plain(a["type"]), _default(a), plain(a["meaning"] or "")) for a in facts["arguments"]]
        yield table(("argument", "type", "default", "meaning"), rows)


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _default(argument: dict[str, Any]) -> str:
    return "required" if argument["required"] else code(yamlio.inline(argument["default"]))
