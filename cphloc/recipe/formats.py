"""What each format of recipes changed, so that a stored recipe goes on meaning what it meant.

A change of behaviour that would alter what a published entry predicts is a field or an argument with a default. When
the default changes, the format counts one up, and the former default is listed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cphloc.config.nodes import Node, from_plain
from cphloc.recipe.blocks import blocks
from cphloc.registry import kinds

FORMAT = 2
"""The format that this cphloc writes, and that a recipe without ``format`` has when a person writes it."""

FIRST = 1
"""The format of a recipe that was stored beside weights without ``format``."""

FORMER_DEFAULTS: Mapping[int, Mapping[str, Any]] = {
    1: {
        "dataset.sts_petct.channels": ["ct"],
    },
}
"""By format, the defaults that the next format changed: of an argument, as ``kind.type.argument``, or of a field at a
dotted path of the recipe, such as ``data.fit``."""


def add_former_defaults(root: Node) -> None:
    """Write what a recipe of an earlier format leaves out and what has another default today, in place."""
    stated = root.get(("format",))
    number = stated.value if stated is not None and isinstance(stated.value, int) else FORMAT
    former = [(of, key, value) for of, changed in FORMER_DEFAULTS.items() for key, value in changed.items()]
    for of, key, value in former:
        if number <= of:
            *path, name = key.split(".")
            for node in _places(root, tuple(path)):
                node.children.setdefault(name, from_plain(value, f"default of format {of}"))


def _places(root: Node, path: tuple[str, ...]) -> list[Node]:
    """The blocks of a ``(kind, type)``, else the mapping at a path of the recipe, added where it is missing."""
    if path[0] in kinds.ALL:
        return [b.node for b in blocks(root) if (b.kind, _type(b.node)) == path]
    node = root
    for key in path:
        if not isinstance(node.value, dict):
            return []
        node = node.children.setdefault(key, from_plain({}, "default"))
    return [node] if isinstance(node.value, dict) else []


def _type(node: Node) -> Any:
    named = node.children.get("type")
    return named.value if named is not None else None
