"""Load recipes that start from a zoo entry or run, and inherit the parts of its model that they leave out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cphloc.config.nodes import Node
from cphloc.errors import CphlocError
from cphloc.recipe import recipe as recipes
from cphloc.recipe.recipe import Recipe


def load_recipe(
    source: str | Path | Mapping[str, Any] | Node | Recipe, overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Read a recipe as `cphloc.recipe.recipe.load` does; with ``from``, ``model`` needs only what differs.

    Args:
        source: a file, the name of a shipped recipe, a mapping, a tree with source positions, or a `Recipe`.
        overrides: values by dotted key, such as ``{"train.steps": 10}``, merged over the recipe.

    Raises:
        NotFoundError: there is no such file or shipped recipe.
        RecipeError: the recipe is invalid; lists all problems with their source positions.
    """
    return recipes.load(source, overrides, model_of)


def model_of(spec: str) -> Mapping[str, Any] | None:
    """Return the block ``model`` of the stored recipe of an entry or run; ``None`` where it cannot be read."""
    # Most recipes start from nothing, and are read in a third of the time without these imports.
    from cphloc.tracking.run import Run
    from cphloc.zoo.resolve import resolve_run_or_entry
    from cphloc.zoo.stored import stored_recipe

    try:
        found = resolve_run_or_entry(spec)
        if isinstance(found, Run):
            return found.recipe.to_plain()["model"]
        return stored_recipe(found).to_plain()["model"]
    except (CphlocError, OSError):  # reported where the weights are loaded
        return None
