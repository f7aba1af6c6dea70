"""Resolve references in a recipe: ``${model.neck.channels}`` is replaced by the value at that path.

A reference must be the whole value, not part of a string.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from cphloc.config.nodes import KeyPath, Node, dotted, parse_path
from cphloc.errors import Problem, RecipeError, did_you_mean

_REFERENCE = re.compile(r"\$\{([^${}]+)\}")
_SHOWN = 80
MAX_VALUES = 10_000
"""Largest number of values of a recipe after merging."""


def resolved(root: Node) -> Node:
    """Replace references by the values they name.

    Args:
        root: the whole recipe.

    Raises:
        RecipeError: a reference is not the whole value, names a missing key, or refers to itself.
    """
    references = _References(root)
    resolved = references.resolve(root, (), ())
    if references.problems:
        raise RecipeError(references.problems)
    return resolved


@dataclass
class _References:
    """Resolves the references in a tree, and collects the problems."""

    root: Node
    problems: list[Problem] = field(default_factory=list)
    visited: int = 0

    def resolve(self, node: Node, path: KeyPath, trail: tuple[str, ...]) -> Node:
        """Return a copy of ``node`` with its references resolved; ``trail`` is those being followed."""
        self.visited += 1
        if self.visited > MAX_VALUES:
            raise RecipeError(
                [
                    Problem(
                        str(node.where),
                        dotted(path),
                        f"more than {MAX_VALUES:,} values",
                        "use fewer references",
                    )
                ]
            )
        if isinstance(node.value, dict):
            below: Any = {key: self.resolve(n, (*path, key), trail) for key, n in node.value.items()}
        elif isinstance(node.value, list):
            below = [self.resolve(n, (*path, i), trail) for i, n in enumerate(node.value)]
        elif isinstance(node.value, str) and "${" in node.value:
            return self._follow(node, node.value, path, trail)
        else:
            return node
        return Node(below, node.where, node.key_where)

    def _follow(self, node: Node, text: str, path: KeyPath, trail: tuple[str, ...]) -> Node:
        match = _REFERENCE.fullmatch(text)
        key = match[1].strip() if match else ""
        target_path = parse_path(key)
        target = self.root.get(target_path)
        text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        if not key:
            self._report(node, path, f"'{text}' mixes text and a reference", "make the reference the whole value")
        elif key in trail:
            self._report(node, path, f"'{text}' refers to itself", "write the value out")
        elif target is None:
            parent = self.root.get(target_path[:-1])
            known = map(str, parent.children) if parent is not None else ()
            fix = (
                did_you_mean(str(target_path[-1]) if target_path else "", known)
                or "refer to a key of this recipe by its whole path"
            )
            self._report(node, path, f"'{text}' refers to a missing key", fix)
        else:
            copied = self.resolve(target, target_path, (*trail, key))
            return Node(copied.value, node.where, node.key_where)
        return node

    def _report(self, node: Node, path: KeyPath, what: str, fix: str) -> None:
        problem = Problem(str(node.where), dotted(path), what, fix)
        if problem not in self.problems:
            self.problems.append(problem)
