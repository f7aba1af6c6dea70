"""A tree of plain values in which every key and value has its source position.

Recipes are merged and overridden as such trees, so that every error message and every line of ``cphloc explain`` can
name the file and line, or the ``--set`` option, that a value comes from.
"""

from __future__ import annotations

import re
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
    """Source position of a key or value; line 0 where the source has no lines, such as ``--set a=1``.

    Args:
        source: name of the file, or the option.
        line: counted from 1.
        column: counted from 1.
    """

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest size of a document that is read.

    Args:
        bytes: length of the text.
        values: number of values, with those that aliases repeat.
    """

    bytes: int
    values: int


@dataclass(slots=True)
class Node:
    """A value with its source position and that of its key.

    Args:
        value: a scalar, a list of nodes, or a dict of nodes by key.
        where: position of the value.
        key_where: position of its key; for the root and for list items, that of the value.
        drops: whether it is a null that was merged over another recipe, whose value it leaves out.
    """

    value: dict[Key, Node] | list[Node] | Scalar
    where: Position
    key_where: Position
    drops: bool = False

    @property
    def plain(self) -> Any:
        """The value without positions: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain for key, node in self.value.items()}
        return [node.plain for node in self.value] if isinstance(self.value, list) else self.value

    def get(self, path: KeyPath) -> Node | None:
        """Return the node at ``path``, or ``None`` if there is none."""
        node: Node | None = self
        for key in path:
            children = node.children if node is not None else {}
            node = children.get(key)
        return node

    @property
    def children(self) -> dict[Key, Node]:
        """Child nodes by key or index, empty for a scalar; for a mapping the dict itself, so changes to it are kept."""
        if isinstance(self.value, list):
            return dict(enumerate(self.value))
        return self.value if isinstance(self.value, dict) else {}

    def leaves(self, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
        """Iterate over the leaves with their paths: scalars, empty mappings, and lists of scalars, in order."""
        below = [(key, node) for key, node in self.children.items()]
        if (isinstance(self.value, dict) and below) or any(node.children for _, node in below):
            for key, node in below:
                yield from node.leaves((*path, key))
        else:
            yield path, self


def dotted(path: KeyPath) -> str:
    """Format ``path`` with dots and brackets.

    >>> dotted(("data", "augment", 0, "type"))
    'data.augment[0].type'
    """
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".") or "(top)"


def parse_path(text: str) -> KeyPath:
    """Split a dotted key into names and list indices; the inverse of `dotted`.

    >>> parse_path("data.augment[0].type")
    ('data', 'augment', 0, 'type')
    """
    return tuple(int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]]+", text))


def from_plain(value: Any, source: str) -> Node:
    """Convert plain dicts, lists and scalars to nodes, all with the position ``source``.

    Raises:
        RecipeError: a value that YAML cannot hold, or a nesting deeper than `MAX_DEPTH`.
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
