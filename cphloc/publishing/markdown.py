"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table.

    >>> table(("a", "b"), [("1", "x|y")]).splitlines()
    ['| a | b |', '| --- | --- |', '| 1 | x\\\\|y |']
    """
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def code_block(language: str, lines: Iterable[str]) -> str:
    """Write a block of code.

    >>> code_block("sh", ["cphloc list"])
    '```sh\\ncphloc list\\n```'
    """
    return "\n".join([f"```{language}", *lines, "```"])
