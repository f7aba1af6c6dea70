"""Unfair differences between the arms of a study: those that no arm states, and those of the training budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from cphloc.config.nodes import dotted
from cphloc.config.yamlio import inline
from cphloc.modeling.build import blueprint
from cphloc.recipe.recipe import Recipe
from cphloc.studies.study import Cell, Study

_CRITERIA = {"criterion": "loss", "side_criterion": "side_loss"}
"""Attributes of a head that hold its losses, and the keys of a recipe that set them."""

_BUDGET = ("train.steps", "train.minutes", "train.batch", "train.validate_every")
"""Keys that must be equal in all arms even where arms state them."""
TRAININGS = "tune"
"""Key under which arms are listed that are tuned over different numbers of trainings."""


@dataclass(frozen=True)
class Confound:
    """A key in which arms differ although none of them states it, or although it is part of the training budget.

    Args:
        key: dotted key of the recipe.
        values: value of each arm that has the key.
        reason: why the study accepts the difference, from its ``confounds``; empty if it does not.
    """

    key: str
    values: Mapping[str, Any]
    reason: str = ""

    def __str__(self) -> str:
        """Return the key and what each arm has there."""
        by_value: dict[str, list[str]] = {}
        for arm, value in self.values.items():
            by_value.setdefault(inline(value), []).append(arm)
        return f"{self.key}: " + "; ".join(f"{value} ({', '.join(arms)})" for value, arms in by_value.items())


def confounds(study: Study) -> list[Confound]:
    """Resolve every arm with all defaults and list the keys in which arms differ beyond what they state.

    The budget must be equal in any case: steps, batch, validations, and the number of trainings of which the best is
    selected (``tune``). An arm from which another one starts or learns (``after``, ``teacher``) is a part of that arm's
    treatment.

    A key counts as stated if an arm, the grid or ``tune`` writes it or a key above it that holds no mapping. A key that
    only some arms have comes with the component that they name and is compared among those arms. Losses are compared as
    built, because each head has a default of its own.

    Args:
        study: the study; without models there is nothing to list.
    """
    first = {cell.arm: cell for cell in reversed(study.cells)}
    cells = [first[arm] for arm in dict.fromkeys(cell.arm for cell in study.cells) if first[arm].base is not None]
    values = {cell.arm: _values(cell.recipes(study.name, 0, study.text.vary)[0]) | _trainings(cell) for cell in cells}
    stated = {key for cell in cells for key in _stated(cell)} - {*_BUDGET, TRAININGS}
    found = []
    for key in dict.fromkeys(key for keys in values.values() for key in keys):
        by_arm = {arm: keys[key] for arm, keys in values.items() if key in keys}
        if len({inline(value) for value in by_arm.values()}) > 1 and not _covered(key, stated):
            accepted = (why for pattern, why in study.text.confounds.items() if fnmatchcase(key, pattern))
            found.append(Confound(key, by_arm, next(accepted, "")))
    return found


def _values(recipe: Recipe) -> dict[str, Any]:
    """Return every value of a recipe by dotted key, and of every head the types of its losses as built."""
    plain = {dotted(path): node.plain for path, node in recipe.tree.leaves()}
    for name, head in blueprint(recipe).heads.items():
        for attribute, key in _CRITERIA.items():
            path = f"model.heads.{name}.{key}"
            if plain.get(path) is None and (loss := getattr(head, attribute, None)) is not None:
                plain[path] = type(loss).__name__
            elif plain.get(f"{path}.type") is not None:
                plain[path] = type(getattr(head, attribute)).__name__
    return plain


def _trainings(cell: Cell) -> dict[str, Any]:
    """Return the number of trainings of which the best is selected for every seed."""
    return {TRAININGS: len(cell.tune.values) if cell.tune else 1}


def _stated(cell: Cell) -> Iterator[str]:
    """Yield the dotted keys that an arm writes."""
    yield "name"
    yield from [cell.tune.key] if cell.tune else []
    for key, node in cell.overrides.items():
        for path, _ in node.leaves() if hasattr(node, "leaves") else [((), node)]:
            yield dotted(path) if not key else key + (f".{dotted(path)}" if path else "")


def _covered(key: str, stated: set[str]) -> bool:
    """Return True where a key, the key of a block whose ``type`` is stated, or an item of a list is stated."""
    return key in stated or f"{key}.type" in stated or any(key.startswith((f"{one}.", f"{one}[")) for one in stated)
