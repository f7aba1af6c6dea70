"""Give the examples of a docstring, which stand at its end without a title, a section of their own."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_EXAMPLE = re.compile(r"\n\n(>>> .*?)(?=\n\n(?!>>> )|\Z)", flags=re.S)


class DoctestSections(griffe.Extension):
    """Extension of griffe that puts the heading ``Examples:`` above the lines that begin with ``>>>``."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = with_sections(obj.docstring.value)


def with_sections(text: str) -> str:
    """Return a docstring whose examples are a section, as the Google style writes it."""
    return _EXAMPLE.sub(lambda found: f"\n\nExamples:\n{textwrap.indent(found[1], '    ')}", text)
