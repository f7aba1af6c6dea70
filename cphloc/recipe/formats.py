"""Format versions of recipes, and the defaults that each version changed.

A change of behaviour that would alter the predictions of published models is made as a field or argument with a
default. When such a default changes, the format version is incremented and the former default is listed here, so that
recipes stored in an earlier format keep their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cphloc.config.nodes import Node, from_plain
from cphloc.recipe.blocks import blocks
from cphloc.registry import kinds

FORMAT = 2
"""Current format version, of all recipes that this version of cphloc saves and of new recipes without ``format``."""

FIRST = 1
"""Format version of recipes that were stored with model weights and have no ``format``."""

FORMER_DEFAULTS: Mapping[int, Mapping[str, Any]] = {
    1: {
        "dataset.sts_petct.channels": ["ct"],
        "data.pad": "zero_then_edge",
    },
}
"""Format version -> defaults that the next version changed.

A key is ``kind.type.argument`` for an argument of a component, or the dotted path of a recipe field, such as
``data.fit``.
"""


def add_former_defaults(root: Node) -> None:
    """Fill in, in place, the former defaults of values that a recipe of an earlier format leaves out."""
    stated = root.get(("format",))
    number = stated.value if stated is not None and isinstance(stated.value, int) else FORMAT
    former = [(of, key, value) for of, changed in FORMER_DEFAULTS.items() for key, value in changed.items()]
    for of, key, value in former:
        if number <= of:
            *path, name = key.split(".")
            for node in _places(root, tuple(path)):
                node.children.setdefault(name, from_plain(value, f"default of format {of}"))


def _places(root: Node, path: tuple[str, ...]) -> list[Node]:
    """The blocks of a ``(kind, type)``; for other paths, the mapping at that path of the recipe, created if missing."""
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
