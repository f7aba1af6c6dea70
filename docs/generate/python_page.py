"""Reference page of the public names: the docstring of each, read by mkdocstrings."""

from __future__ import annotations

from collections.abc import Iterator

import cphloc

_FURTHER = {
    "Model": "cphloc.modeling.model",
    "Localizer": "cphloc.inference.localizer",
    "Entry": "cphloc.zoo.entry",
}
"""Classes that public calls return, and where they are defined."""


def pages() -> Iterator[tuple[str, str]]:
    """Yield the page of all public names."""
    yield "reference/python.md", _page()


def _page() -> str:
    lines = [
        "# Python",
        "",
        "`import cphloc` takes a few milliseconds; torch is imported by the first call that needs it.\n",
    ]
    lines += [f"::: {module}.{name}\n" for name, module in cphloc._PUBLIC.items()]
    lines += ["## What the calls return", ""]
    lines += [f"::: {module}.{name}\n    options: {{heading_level: 3}}\n" for name, module in _FURTHER.items()]
    return "\n".join(lines)
