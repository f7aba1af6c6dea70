"""Reference pages of the commands and of the file formats, from the parser and the table of formats."""

from __future__ import annotations

import os
from collections.abc import Iterator

from markdown_text import plain, table

from cphloc.cli.commands import GROUPS
from cphloc.cli.main import parser
from cphloc.data.io.formats import FORMATS

_WIDTH = "88"


def pages() -> Iterator[tuple[str, str]]:
    """Yield the page of the commands and that of the formats."""
    yield "reference/commands.md", _commands()
    yield "reference/formats.md", _formats()


def _commands() -> str:
    os.environ["COLUMNS"], lines = _WIDTH, ["# Commands", ""]
    lines.append("Exit codes: 0 done, 1 failed, 2 wrong input. Every command takes `--json` and `--debug`.\n")
    of = parser().commands or {}
    for title, group in GROUPS.items():
        lines += [f"## {title.capitalize()}", ""]
        for name, summary in group.items():
            lines += [f"### cphloc {name}", "", f"{plain(summary[0].upper() + summary[1:])}.", ""]
            lines += ["```text", of[name].format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def _formats() -> str:
    rows = [
        (
            plain(f.name),
            plain(f.content),
            " ".join(f"`{end}`" for end in f.read),
            " ".join(f"`{end}`" for end in f.written),
            "in mm" if f.states_mm else "not stated",
        )
        for f in FORMATS
    ]
    return (
        "# File formats\n\nFiles are known by their content, not only by their name. A file whose voxel size is not "
        "stated needs `spacing_mm` in Python or `--spacing` on the command line where millimetres matter.\n\n"
        + table(("format", "content", "read", "written", "voxel size"), rows)
    )
