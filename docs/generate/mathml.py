"""Render formulas as MathML, which browsers draw without a script or a font from the network."""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert


def fence(source: str, *_: Any, **__: Any) -> str:
    """Return the HTML of a fenced block ``math`` whose content is LaTeX; a custom fence of pymdownx.superfences."""
    return f'<div class="formula">{convert(source.strip(), display="block")}</div>'
