"""Report a problem of a recipe at its source position."""

from __future__ import annotations

from cphloc.config.nodes import dotted
from cphloc.errors import Problem
from cphloc.recipe.recipe import Recipe


def problem_at(recipe: Recipe, path: tuple[str | int, ...], what: str, fix: str) -> Problem:
    """Return a problem at the source position of the value at ``path``.

    Args:
        recipe: the recipe with the problem.
        path: keys and list indices.
        what: what is wrong.
        fix: what to do.
    """
    node = recipe.tree.get(path)
    return Problem(str(node.where) if node else recipe.name, dotted(path), what, fix)
