"""The study: a claim, the arms that test it, and the rule that decides, checked like a recipe before anything runs."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cphloc import paths
from cphloc.config import yamlio
from cphloc.config.argument_types import NonNegativeInt, PositiveInt
from cphloc.config.nodes import Node, dotted, from_plain
from cphloc.config.problems import position, problems_of
from cphloc.errors import InputError, NotFoundError, Problem, RecipeError, did_you_mean
from cphloc.recipe.blocks import BlockAt, check_block
from cphloc.recipe.merge import STUDIES, find, parse_path
from cphloc.recipe.recipe import Recipe
from cphloc.recipe.recipe import load as load_recipe
from cphloc.registry.contract import construct

EVALUATION = {"type": "evaluation"}
"""What is measured where a study does not say."""

_NOT_OVERRIDES = ("recipe", "tune", "after")
"""Keys of an arm that are no keys of a recipe."""

_ARMS = "arms"
"""Key of a measure that names the arms it is for."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Tune(_Strict):
    """A value chosen on validation cases, anew for every arm and seed."""

    key: str = Field(description="dotted key of the recipe")
    values: list[Any] = Field(description="values to try", min_length=1)
    by: str = Field(description="validation metric that chooses")


class Condition(_Strict):
    """What an interval must say: of a row, or of a difference of two; at one value of the grid or at all."""

    metric: str
    row: str | None = Field(None, description="arm, or arm/variant")
    compare: list[str] | None = Field(None, description="two rows; the first minus the second", min_length=2)
    above: float | None = Field(None, description="the whole interval must lie above")
    below: float | None = Field(None, description="the whole interval must lie below")
    at: Any = Field(None, description="value of the grid; null: at every one")


class Text(_Strict):
    """The keys of a study file."""

    claim: str = Field(description="what is put to the test, one sentence")
    expected: str = Field(description="what the numbers show if it is true")
    chapter: str = Field("", description="heading of the page under which it stands")
    setup: str = Field("", description="what is done, for people")
    base: str | dict[str, Any] | None = Field(None, description="recipe that all arms start from; null: no model")
    overrides: dict[str, Any] = Field({}, description="values by dotted key, for all arms")
    arms: dict[str, Any] = Field({}, description="by name: overrides by dotted key, 'tune', 'after'; or another recipe")
    seeds: PositiveInt | list[NonNegativeInt] = Field(5, description="how many, or which")
    vary: list[str] = Field(["train.seed"], description="keys that take the seed")
    grid: dict[str, list[Any]] = Field({}, description="one dotted key and its values; every arm runs at each")
    measures: list[dict[str, Any]] = Field([EVALUATION], description="what is measured of every arm and seed")
    metrics: list[str] = Field(description="shown and compared", min_length=1)
    compare: list[list[str]] = Field([], description="pairs of rows; the first minus the second")
    verdict: list[Condition] = Field([], description="all must hold")


@dataclass(frozen=True)
class Cell:
    """One arm at one value of the grid: what is trained for every seed.

    Args:
        arm: its name.
        at: value of the grid; ``None`` without one.
        tune: a value to choose on validation cases.
        after: an earlier arm, from whose weights this one starts.
        base: the recipe it starts from; ``None`` in a study without models.
        overrides: what it changes of that.
    """

    arm: str
    at: Any = None
    tune: Tune | None = None
    after: str | None = None
    base: Any = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def recipes(self, name: str, seed: int, vary: list[str]) -> list[Recipe]:
        """The recipes to train for a seed: one, or one per value to choose from; none in a study without models."""
        if self.base is None:
            return []
        seeded = {**self.overrides, "name": name, **dict.fromkeys(vary, seed)}
        values = [{self.tune.key: value} for value in self.tune.values] if self.tune else [{}]
        return [load_recipe(self.base, {**seeded, **value}) for value in values]


@dataclass(frozen=True)
class Study:
    """A checked study; `load` makes it.

    Args:
        name: the file's.
        text: what the file says.
        cells: arms times grid.
        measures: type and arguments of each, and the arms it is for.
    """

    name: str
    text: Text
    cells: list[Cell]
    measures: list[dict[str, Any]]

    @property
    def seeds(self) -> list[int]:
        """Every seed."""
        return list(range(self.text.seeds)) if isinstance(self.text.seeds, int) else list(self.text.seeds)

    @property
    def sha256(self) -> str:
        """SHA-256 of everything that affects results and verdict; texts for people are left out."""
        decisive = self.text.model_dump(mode="json", exclude={"claim", "expected", "chapter", "setup"})
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def measures_of(self, arm: str) -> list[dict[str, Any]]:
        """The measures of one arm, without the names of arms."""
        chosen = [m for m in self.measures if arm in m.get(_ARMS, [arm])]
        return [{k: v for k, v in m.items() if k != _ARMS} for m in chosen]


def shipped_studies() -> dict[str, Path]:
    """Shipped studies by name, in the order of the lecture."""
    return {path.stem: path for path in sorted((paths.shipped("recipes") / STUDIES).glob("*.yaml"))}


def load(source: str | Path, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read a study and check it whole: its keys, every recipe of it, every measure.

    Args:
        source: a file, or the name of a shipped study.
        overrides: values by dotted key; what is no key of a study goes to the recipes of all arms.

    Raises:
        NotFoundError: no such study.
        RecipeError: with all problems, each at its place.
    """
    path = _find(source)
    tree = yamlio.load(path)
    if not isinstance(tree.value, dict):
        raise RecipeError([Problem(str(tree.where), "(top)", "not a study", "write 'claim:', 'arms:', 'metrics:'")])
    _set(tree, overrides or {})
    try:
        text = Text.model_validate(tree.plain)
    except ValidationError as error:
        raise RecipeError(problems_of(error, Text, tree)) from None
    cells = list(_cells(tree, path.parent))
    problems = [*_own_problems(tree, text), *_measure_problems(tree, text), *_recipe_problems(tree, text, cells)]
    if problems:
        raise RecipeError(dict.fromkeys(problems))
    return Study(path.stem, text, cells, text.measures)


def _find(source: str | Path) -> Path:
    path, known = Path(source).expanduser(), shipped_studies()
    if path.is_file():
        return path
    found = [p for name, p in known.items() if str(source) in (name, name.split("-")[0])]
    if not found:
        fix = did_you_mean(str(source), known) or "give the path of a .yaml file, or a name from recipes/lecture"
        msg = f"no study '{source}'; {fix}"
        raise NotFoundError(msg)
    return found[0]


def _set(tree: Node, overrides: Mapping[str, Any]) -> None:
    """Put each override where it belongs: into the study, or into what all arms have in common."""
    keys = tree.children
    common = keys.setdefault("overrides", from_plain({}, "default"))
    for key, value in overrides.items():
        node = from_plain(value, f"--set {key}={yamlio.inline(value)}")
        if parse_path(key)[0] in Text.model_fields:
            keys[key] = node
        elif isinstance(common.value, dict):
            common.value[key] = node


def _cells(tree: Node, folder: Path) -> Iterator[Cell]:
    """Arms times grid, with values that know where they were written."""
    base, common = tree.get(("base",)), (tree.get(("overrides",)) or from_plain({}, "")).children
    grid = (tree.get(("grid",)) or from_plain({}, "")).children
    arms = (tree.get((_ARMS,)) or from_plain({}, "")).children or {"": from_plain({}, "default")}
    values = [list(node.children.values()) for node in grid.values()]
    points = [dict(zip(grid, point, strict=True)) for point in itertools.product(*values)]
    for (name, arm), point in itertools.product(arms.items(), points):
        stated = dict(arm.children) if isinstance(arm.value, dict) else {}
        own = {key: stated.pop(key, None) for key in _NOT_OVERRIDES}
        recipe = arm if isinstance(arm.value, str) else own["recipe"] or base
        tune = own["tune"] and Tune.model_validate(own["tune"].plain)
        after = own["after"] and own["after"].plain
        at = next((_label(node.plain) for node in point.values()), None)
        changes = {str(key): node for key, node in (common | stated | point).items()}
        yield Cell(str(name), at, tune, after, _source(recipe, folder), changes)


def _label(value: Any) -> Any:
    """A value of the grid as it is named in tables and conditions: a list by its text."""
    return value if isinstance(value, str | int | float | bool | None) else yamlio.inline(value)


def _source(recipe: Node | None, folder: Path) -> Any:
    """The recipe an arm starts from: written out in the study, a file beside it, or a shipped one."""
    if recipe is None or recipe.value is None:
        return None
    if isinstance(recipe.value, dict):
        return copy.deepcopy(recipe)
    try:
        return find(str(recipe.value), folder)
    except InputError as error:
        what, fix = str(error).split("; ", 1)
        raise RecipeError([Problem(str(recipe.where), "base", what, fix)]) from None


def _own_problems(tree: Node, text: Text) -> Iterator[Problem]:
    """What fits no schema: names of arms that do not exist, conditions that say nothing, a grid of several keys."""
    arms = list(text.arms) or [""]

    def unknown(names: list[str], path: tuple) -> Iterator[Problem]:
        """Yield a problem for every name that is no arm of the study."""
        for name in names:
            if text.arms and name.split("/")[0] not in arms:
                fix = did_you_mean(name.split("/")[0], arms) or f"arms: {', '.join(arms)}"
                yield Problem(position(tree, path), dotted(path), f"no arm '{name}'", fix)

    for number, (name, arm) in enumerate(text.arms.items()):
        after = arm.get("after") if isinstance(arm, dict) else None
        if after is not None and after not in arms[:number]:
            fix = f"name one of the arms above it: {', '.join(arms[:number]) or 'there is none'}"
            path = (_ARMS, name, "after")
            yield Problem(position(tree, path), dotted(path), f"'{after}' is no earlier arm", fix)
    for number, pair in enumerate(text.compare):
        yield from unknown(pair, ("compare", number))
    for number, measure in enumerate(text.measures):
        yield from unknown(measure.get(_ARMS, []), ("measures", number))
    for number, condition in enumerate(text.verdict):
        path = ("verdict", number)
        yield from unknown(condition.compare or [condition.row or arms[0]], path)
        if (condition.row is None) == (condition.compare is None) or (condition.above is None) == (
            condition.below is None
        ):
            what = "a condition is about a 'row' or a 'compare', and its interval lies 'above' or 'below' something"
            yield Problem(position(tree, path), dotted(path), what, "state one of each")
        if condition.metric not in text.metrics:
            fix = did_you_mean(condition.metric, text.metrics) or f"add it to metrics: {', '.join(text.metrics)}"
            yield Problem(position(tree, path), dotted(path), f"the metric '{condition.metric}' is not compared", fix)
    if len(text.grid) > 1:
        yield Problem(position(tree, ("grid",)), "grid", "more than one key", "keep one, and make arms of the others")


def _measure_problems(tree: Node, text: Text) -> Iterator[Problem]:
    listed = tree.get(("measures",))
    for number, node in (listed.children if listed is not None else {}).items():
        yield from check_block(BlockAt("measure", ("measures", number), node), tree, None, {"type", _ARMS})


def _recipe_problems(tree: Node, text: Text, cells: list[Cell]) -> Iterator[Problem]:
    for cell in cells:
        try:
            cell.recipes("study", 0, text.vary)
        except RecipeError as error:
            yield from error.problems


def make_measures(blocks: list[dict[str, Any]]) -> list[Any]:
    """The measures that blocks name, ready to be called."""
    return [construct("measure", block["type"], {k: v for k, v in block.items() if k != "type"}) for block in blocks]
