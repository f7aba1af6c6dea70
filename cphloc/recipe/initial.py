"""Find where a recipe would take initial weights from: a hub, a file, or another entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def other_weights(value: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted keys of a plain recipe that name weights to start from; ``path`` is that of ``value``."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            here = f"{path}.{key}".removeprefix(".")
            starts = key in ("pretrained", "from", "teacher") or (key == "weights" and isinstance(inner, str))
            if starts and inner:
                yield here
            yield from other_weights(inner, here)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from other_weights(inner, f"{path}[{position}]")
