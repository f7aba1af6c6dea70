"""Problems of a recipe that only its model shows, at the line that caused them."""

from __future__ import annotations

from cphloc.config.nodes import dotted
from cphloc.errors import Problem
from cphloc.recipe.recipe import Recipe


def problem_at(recipe: Recipe, path: tuple[str | int, ...], what: str, fix: str) -> Problem:
    """Return a problem at the line of the recipe that wrote ``path``."""
    node = recipe.tree.get(path)
    return Problem(str(node.where) if node else recipe.name, dotted(path), what, fix)
