"""Load recipes that refer to zoo entries: to start from one, or as the stages of a pipeline."""

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

    The stages of a pipeline get what their entries state.

    Args:
        source: a file, the name of a shipped recipe, a mapping, a tree with source positions, or a `Recipe`.
        overrides: values by dotted key, such as ``{"train.steps": 10}``, merged over the recipe.

    Raises:
        NotFoundError: there is no such file or shipped recipe.
        RecipeError: the recipe is invalid; lists all problems with their source positions.
    """
    return recipes.load(source, overrides, model_of, stored_entry)


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


def stored_entry(spec: str) -> dict[str, Any]:
    """Return what a stage of a pipeline keeps of an entry: `cphloc.recipe.stages.Stored` as plain values.

    Because every default is written, its recipe has the same meaning in the current format.

    Args:
        spec: see `cphloc.zoo.resolve.resolve_entry`.

    Raises:
        InputError: there is no such entry, it cannot be used here, or is not the one that was published.
    """
    from cphloc.recipe.formats import FORMAT
    from cphloc.zoo.entry import Input
    from cphloc.zoo.resolve import resolve_entry
    from cphloc.zoo.stored import stored_recipe

    listing = resolve_entry(spec)
    entry = listing.entry
    entry.require_plugins()
    return {
        "entry": str(listing),
        "sha256": listing.sha256,
        "recipe": {**stored_recipe(listing).to_plain(), "format": FORMAT},
        "inputs": {name: Input.of(channel).model_dump() for name, channel in entry.channel_inputs.items()},
        "fingerprint": None if entry.fingerprint is None else entry.fingerprint.model_dump(),
        "applies": entry.options_applied.model_dump(),
    }
