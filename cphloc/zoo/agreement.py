"""Compare what ``entry.yaml`` states with the recipe that it pins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cphloc.modeling.classes import mergings
from cphloc.recipe.recipe import Recipe
from cphloc.structures.annotation import class_names
from cphloc.zoo.entry import Entry
from cphloc.zoo.names import ENTRY_FILE


def recipe_disagreements(entry: Entry, recipe: Recipe) -> Iterator[str]:
    """Yield a sentence for each fact of an entry that its recipe contradicts: task, input, classes, headline metric.

    Args:
        entry: the entry.
        recipe: its stored recipe.
    """
    spacing, metrics = recipe.data.spacing_mm, list(entry.evaluation.metrics)
    about = recipe.data.about
    pairs: dict[str, tuple[Any, Any]] = {
        "task": (entry.task, recipe.task),
        "dims": (entry.dims, recipe.dims),
        "channels": (entry.channels, list(recipe.channels)),
        "spacing_mm": (entry.spacing_mm, None if spacing is None else list(spacing)),
        "intensity": (entry.intensity, recipe.plain_intensity),
        "data set": (entry.data.name, (about.name if about else None) or recipe.data.type),
        "classes": (entry.classes, classes_of(recipe) or entry.classes),
        "stages": (
            {name: (stage.entry, stage.sha256) for name, stage in (entry.stages or {}).items()},
            {name: (stage.frozen.entry, stage.frozen.sha256) for name, stage in recipe.stages.items()},
        ),
        "headline metric": (metrics[0], recipe.headline if recipe.headline in metrics else metrics[0]),
    }
    for what, (stated, actual) in pairs.items():
        if stated != actual:
            yield disagreement(what, stated, actual, "its recipe has")
    heads = recipe.last.model.heads.values()
    known = {name for head in heads for name in class_names(head.args.get("classes") or {}).values()}
    if unknown := entry.options_applied.filtered - known:
        yield f"{ENTRY_FILE}: options name no class of the recipe: {', '.join(sorted(unknown))}"


def disagreement(what: str, stated: object, actual: object, holder: str) -> str:
    """Write that ``entry.yaml`` states something else than another file of the entry."""
    return f"{ENTRY_FILE} states {what} {stated} but {holder} {actual}"


def classes_of(recipe: Recipe) -> dict[int, str]:
    """Return the classes of the data set by number: those of the first head of a recipe, or of its last stage.

    Of a head that merges classes those that it merges; empty where it states none.
    """
    name, head = next(iter(recipe.last.model.heads.items()))
    if (merged := mergings(recipe.last).get(name)) is not None:
        return merged.dataset
    return class_names(head.args.get("classes") or {})
