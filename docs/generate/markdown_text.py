"""Escape text for Markdown, and write tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def plain(text: object) -> str:
    """Return text with the signs escaped that Markdown and HTML would read; what stands in backticks stays code."""
    parts = re.split(r"(``[^`]+``|`[^`]+`)", " ".join(str(text).split()))
    escaped = (f"`{part.strip('`')}`" if i % 2 else _escaped(part) for i, part in enumerate(parts))
    return "".join(escaped)


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_\[\]])", r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")


def code(text: object) -> str:
    """Return text as inline code; empty text stays empty."""
    return f"`{text}`" if str(text) else ""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a Markdown table; a bar in a cell does not end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", r"\|") for c in line) + " |" for line in lines) + "\n"
