"""A tree of values that remembers where every key and value was written.

Recipes are merged, overridden and reported as such trees, so that every message and every line of ``cphloc explain``
names the file, or the ``--set``, that wrote the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cphloc.errors import Problem, RecipeError

MAX_DEPTH = 50

Key = str | int
KeyPath = tuple[Key, ...]
Scalar = str | int | float | bool | None


class Position(NamedTuple):
    """Where something was written; a line of 0 means that ``source`` alone says it, as ``--set a=1`` does."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(slots=True)
class Node:
    """A value, where it stands, and where the key that names it stands.

    Args:
        value: a scalar, a list of nodes, or a dict of nodes by key.
        where: position of the value.
        key_where: position of its key; for the top and for list items, that of the value.
    """

    value: dict[Key, Node] | list[Node] | Scalar
    where: Position
    key_where: Position

    @property
    def plain(self) -> Any:
        """The value without positions: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain for key, node in self.value.items()}
        return [node.plain for node in self.value] if isinstance(self.value, list) else self.value

    def get(self, path: KeyPath) -> Node | None:
        """The node at ``path``, or ``None``."""
        node: Node | None = self
        for key in path:
            children = node.children if node is not None else {}
            node = children.get(key)
        return node

    @property
    def children(self) -> dict[Key, Node]:
        """Nodes below this one by key or index; of a mapping the dict itself, to be changed; empty for a scalar."""
        if isinstance(self.value, list):
            return dict(enumerate(self.value))
        return self.value if isinstance(self.value, dict) else {}

    def leaves(self, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
        """Every scalar and every list or mapping without mappings below it, with its path, in order."""
        below = [(key, node) for key, node in self.children.items()]
        if (isinstance(self.value, dict) and below) or any(node.children for _, node in below):
            for key, node in below:
                yield from node.leaves((*path, key))
        else:
            yield path, self


def dotted(path: KeyPath) -> str:
    """Write ``path`` as people do.

    >>> dotted(("data", "augment", 0, "type"))
    'data.augment[0].type'
    """
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".") or "(top)"


def from_plain(value: Any, source: str) -> Node:
    """Give plain dicts, lists and scalars the position ``source``, as if they had been read from there.

    Raises:
        RecipeError: a value that YAML has no form for, or a nesting deeper than `MAX_DEPTH`.
    """
    return _from_plain(value, Position(source), ())


def _from_plain(value: Any, where: Position, path: KeyPath) -> Node:
    if len(path) > MAX_DEPTH:
        raise RecipeError(
            [Problem(str(where), dotted(path[:3]), f"nested deeper than {MAX_DEPTH} levels", "flatten it")]
        )
    if isinstance(value, Mapping):
        for key in value:
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise RecipeError([Problem(str(where), dotted(path), f"the key {key!r}", "use text or a whole number")])
        return Node({k: _from_plain(v, where, (*path, k)) for k, v in value.items()}, where, where)
    if isinstance(value, list | tuple):
        return Node([_from_plain(v, where, (*path, i)) for i, v in enumerate(value)], where, where)
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str | int | float | bool | None):
        what = f"a {type(value).__name__}, which a recipe cannot hold"
        raise RecipeError([Problem(str(where), dotted(path), what, "give numbers, text, lists and mappings")])
    return Node(value, where, where)
