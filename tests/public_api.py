"""``python -m tests.public_api``: write ``public_api.txt``, the names and signatures that users rely on.

A change of that file is a change of the interface: it belongs in CHANGELOG.md, and a renamed call keeps its former name
for one minor version (`cphloc.renamed`).
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import cphloc
from cphloc.evaluation.evaluate import Evaluation
from cphloc.inference.ensemble import Ensemble
from cphloc.inference.localizer import Localizer
from cphloc.studies.sweep import Sweep
from cphloc.tracking.run import Run
from cphloc.zoo.entries import Listing
from cphloc.zoo.entry import Entry

FILE = Path(__file__).with_suffix(".txt")
RETURNED = (Localizer, Ensemble, Run, Evaluation, Entry, Listing, Sweep)
"""Classes of what public calls return."""


def text() -> str:
    """All public names with their signatures, one a line."""
    public = {name: getattr(cphloc, name) for name in cphloc.__all__ if name != "__version__"}
    classes = [value for value in public.values() if inspect.isclass(value)]
    lines = [f"cphloc.{name}{_signature(value)}" for name, value in public.items() if not inspect.isclass(value)]
    for kind in (*classes, *RETURNED):
        lines += [f"{kind.__name__}.{line}" for line in _members(kind)]
    return "\n".join(sorted(lines)) + "\n"


def _members(kind: type) -> Iterator[str]:
    """Fields, properties and methods that a class has of its own."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    yield from (f"{field.name}: {field.type}" for field in fields if not field.name.startswith("_"))
    yield from (f"{name}: {vars(kind)['__annotations__'][name]}" for name in getattr(kind, "model_fields", {}))
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        called = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if inspect.isfunction(called):
            yield f"{name}{_signature(called)}"
        elif isinstance(value, property) or type(value).__name__ == "cached_property":
            yield f"{name} (property)"


def _signature(function: object) -> str:
    return re.sub(r"<function (\S+) at 0x\w+>", r"\1", str(inspect.signature(function)).replace("'", ""))


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
