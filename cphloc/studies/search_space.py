"""Search spaces: the values of a recipe that a sweep tries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cphloc.config import yamlio
from cphloc.config.nodes import Node, from_plain
from cphloc.errors import InputError, Problem, RecipeError
from cphloc.recipe.merge import SWEEP, search_space
from cphloc.recipe.recipe import Recipe, load


class Range(BaseModel):
    """Numbers between two ends, both included; whole ones where both ends and the step are."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    @property
    def problem(self) -> str | None:
        """What is wrong with the ends; ``None`` if nothing is."""
        if self.low >= self.high:
            return "low must be below high"
        if self.log and (self.low <= 0 or self.step is not None):
            return "log needs low above 0 and no step"
        return "step must be above 0" if self.step is not None and self.step <= 0 else None


Space = dict[str, Range | list[Any]]
"""Dotted key of the recipe -> a range, or a list of choices."""


def read_space(source: Any, space: str | Path | Mapping[str, Any] | None) -> Space:
    """Read a search space.

    Args:
        source: the recipe: a file or name whose block ``sweep`` is the space, or a mapping with one.
        space: instead, a mapping by dotted key, or a YAML file with one, also below a key ``sweep``.

    Raises:
        InputError: there is no space.
        RecipeError: it is invalid; lists all problems.
    """
    tree = _tree(source, space)
    if tree is None or not isinstance(tree.value, dict) or not tree.value:
        msg = "no search space; add 'sweep: {train.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}}' to the recipe"
        raise InputError(f"{msg}, or give a file with one: --space FILE")
    found: Space = {}
    problems = []
    for key, node in tree.children.items():
        value, problem = _values(node.plain)
        if value is None:
            fix = "write {low: 1e-4, high: 1e-2, log: true}, or a list of choices"
            problems.append(Problem(str(node.where), f"{SWEEP}.{key}", str(problem), fix))
        else:
            found[str(key)] = value
    if problems:
        raise RecipeError(problems)
    return found


def _tree(source: Any, space: str | Path | Mapping[str, Any] | None) -> Node | None:
    if isinstance(space, Mapping):
        return from_plain(dict(space), "space")
    if space is not None:
        tree = yamlio.load(Path(space))
        return tree.get((SWEEP,)) or tree
    if isinstance(source, Mapping):
        return from_plain(source[SWEEP], "recipe") if SWEEP in source else None
    return None if isinstance(source, Recipe) else search_space(source)


def _values(plain: Any) -> tuple[Range | list[Any] | None, str | None]:
    """Range or choices, or ``None`` with what is wrong."""
    if isinstance(plain, list):
        return (plain, None) if plain else (None, "no choice")
    if not isinstance(plain, dict):
        return None, "neither a range nor a list"
    try:
        found = Range.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        return None, f"{'.'.join(map(str, first['loc'][:1]))}: {first['msg']}"
    return (found, None) if found.problem is None else (None, found.problem)


def check_space(recipe: Recipe, space: Space) -> None:
    """Check that the recipe takes every choice and both ends of every range, each by itself.

    Raises:
        RecipeError: it does not; lists the problems of the first value that it does not take.
    """
    for key, values in space.items():
        for value in values if isinstance(values, list) else (values.low, values.high):
            load(recipe, {key: value})


def distributions(space: Space) -> dict[str, Any]:
    """Return Optuna's distribution of every key; of choices, which may be lists themselves, the place in the list."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    made: dict[str, Any] = {}
    for key, values in space.items():
        if isinstance(values, list):
            made[key] = CategoricalDistribution(list(range(len(values))))
        elif values.whole:
            made[key] = IntDistribution(int(values.low), int(values.high), values.log, int(values.step or 1))
        else:
            made[key] = FloatDistribution(float(values.low), float(values.high), values.log, values.step)
    return made


def chosen(space: Space, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a trial by dotted key, from Optuna's parameters; numbers with four significant digits.

    >>> chosen({"a": [[8, 16], [16, 32]], "b": Range(low=0.1, high=0.9)}, {"a": 1, "b": 0.123456})
    {'a': [16, 32], 'b': 0.1235}
    """
    return {key: _plain(values, parameters[key]) for key, values in space.items()}


def _plain(values: Range | list[Any], parameter: Any) -> Any:
    if isinstance(values, list):
        return values[parameter]
    if values.whole:
        return int(parameter)
    rounded = float(f"{parameter:.4g}")
    return min(max(rounded, values.low), values.high) if math.isfinite(rounded) else parameter
