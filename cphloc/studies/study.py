"""Study files: a claim, the arms (experimental conditions) that test it, and the conditions that decide it."""

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

EVALUATION = {"type": "evaluation"}
"""Default measure of a study: the metrics of ``cphloc evaluate`` on the test split."""

_DECISIVE = {"base", "overrides", "arms", "seeds", "vary", "grid", "measures", "metrics"}
"""Keys of a study that affect its values."""

_BEFORE = ("after", "teacher")
"""Keys of an arm that name an earlier arm, whose network of the same seed this one uses."""

_NOT_OVERRIDES = ("recipe", "tune", *_BEFORE)
"""Keys of an arm that are not overrides of the recipe."""

_ARMS = "arms"
"""Key of a measure that lists the arms to which it is limited."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Tune(_Strict):
    """A hyperparameter whose value is selected on validation cases, separately for every arm and seed."""

    key: str = Field(description="dotted key of the recipe")
    values: list[Any] = Field(description="candidate values", min_length=1)
    by: str = Field(description="validation metric by which the best value is selected")


class Condition(_Strict):
    """Bound on the interval of a row, or of the difference of two rows, at one or every value of the grid.

    The bound of a difference is the smallest effect of interest: a difference too small to matter does not hold.
    """

    metric: str
    row: str | None = Field(None, description="arm, or arm/variant")
    compare: list[str] | None = Field(None, description="two rows; the first minus the second", min_length=2)
    above: float | None = Field(None, description="lower bound: the whole interval must be above it")
    below: float | None = Field(None, description="upper bound: the whole interval must be below it")
    at: Any = Field(None, description="value of the grid; null for every value")


class Text(_Strict):
    """The keys of a study file."""

    claim: str = Field(description="hypothesis that the study tests, one sentence")
    expected: str = Field(description="result that is expected if the claim is true")
    chapter: str = Field("", description="heading of the page under which the study is listed")
    setup: str = Field("", description="description of the experiment for readers")
    base: str | dict[str, Any] | None = Field(None, description="recipe of all arms; null where no model is trained")
    overrides: dict[str, Any] = Field({}, description="values by dotted key, for all arms")
    arms: dict[str, Any] = Field(
        {}, description="by name: overrides by dotted key, 'tune', 'after', 'teacher'; or another recipe"
    )
    seeds: PositiveInt | list[NonNegativeInt] = Field(5, description="number of seeds, or a list of seeds")
    vary: list[str] = Field(["train.seed"], description="keys of the recipe that are set to the seed")
    grid: dict[str, list[Any]] = Field({}, description="one dotted key and its values; every arm runs at each")
    measures: list[dict[str, Any]] = Field([EVALUATION], description="measures computed for every arm and seed")
    metrics: list[str] = Field(description="metrics that are shown and compared", min_length=1)
    against: str | None = Field(None, description="metric of the horizontal axis of the figure, such as a cost")
    compare: list[list[str]] = Field([], description="pairs of rows; the second is subtracted from the first")
    verdict: list[Condition] = Field([], description="conditions, all of which must hold for the claim")
    confounds: dict[str, str] = Field({}, description="by dotted key, * for any: why arms differ there unstated")
    after_look: str = Field("", description="what of the conditions was chosen after a first look at numbers")
    cannot_learn: dict[str, str] = Field({}, description="by arm: why the claim predicts that it stays at its baseline")

    @property
    def costs(self) -> tuple[str, ...]:
        """The metric of the horizontal axis with the ends of its range; it follows from the arm, not from a seed."""
        return () if self.against is None else (self.against, f"{self.against}_low", f"{self.against}_high")


@dataclass(frozen=True)
class Cell:
    """One arm at one value of the grid, trained once for every seed.

    Args:
        arm: name of the arm.
        at: value of the grid; ``None`` without a grid.
        tune: hyperparameter to select on validation cases.
        after: an earlier arm, whose weights initialize this one.
        teacher: an earlier arm, whose probabilities this one learns beside the annotations (``train.teacher``).
        base: the recipe to which ``overrides`` apply; ``None`` in a study without models.
        overrides: values by dotted key of the recipe.
    """

    arm: str
    at: Any = None
    tune: Tune | None = None
    after: str | None = None
    teacher: str | None = None
    base: Any = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def recipes(self, name: str, seed: int, vary: list[str]) -> list[Recipe]:
        """List the recipes to train for a seed.

        Args:
            name: name of the recipes.
            seed: value of the keys in ``vary``.
            vary: keys of the recipe that are set to the seed.

        Returns:
            one recipe, or one per value of ``tune``; none in a study without models.
        """
        if self.base is None:
            return []
        seeded = {**self.overrides, "name": name, **dict.fromkeys(vary, seed)}
        values = [{self.tune.key: value} for value in self.tune.values] if self.tune else [{}]
        return [load_recipe(self.base, {**seeded, **value}) for value in values]


@dataclass(frozen=True)
class Study:
    """A validated study, as `load` returns it.

    Args:
        name: name of the file without its suffix.
        text: content of the file.
        cells: every arm at every value of the grid.
        measures: type and arguments of each measure, and the arms to which it is limited.
    """

    name: str
    text: Text
    cells: list[Cell]
    measures: list[dict[str, Any]]

    @property
    def seeds(self) -> list[int]:
        """The seeds; a number n stands for 0 to n - 1."""
        return list(range(self.text.seeds)) if isinstance(self.text.seeds, int) else list(self.text.seeds)

    @property
    def sha256(self) -> str:
        """SHA-256 of everything that affects the values; texts, and conditions that are decided from them, are not."""
        decisive = self.text.model_dump(mode="json", include=_DECISIVE)
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def measures_of(self, arm: str) -> list[dict[str, Any]]:
        """Return the measures of one arm: type and arguments of each."""
        chosen = [m for m in self.measures if arm in m.get(_ARMS, [arm])]
        return [{k: v for k, v in m.items() if k != _ARMS} for m in chosen]


def shipped_studies() -> dict[str, Path]:
    """Return the path of every shipped study by name, in the order of the lecture."""
    return {path.stem: path for path in sorted((paths.shipped("recipes") / STUDIES).glob("*.yaml"))}


def load(source: str | Path, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read a study and validate its keys, all of its recipes and all of its measures.

    Args:
        source: a file, or the name of a shipped study.
        overrides: values by dotted key; keys that are not keys of a study apply to the recipes of all arms.

    Raises:
        NotFoundError: no such study.
        RecipeError: the study is not valid; the message lists every problem with its file and line.
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
    """Apply overrides: keys of a study to the study, other keys to the overrides of all arms."""
    keys = tree.children
    common = keys.setdefault("overrides", from_plain({}, "default"))
    for key, value in overrides.items():
        node = from_plain(value, f"--set {key}={yamlio.inline(value)}")
        if parse_path(key)[0] in Text.model_fields:
            keys[key] = node
        elif isinstance(common.value, dict):
            common.value[key] = node


def _cells(tree: Node, folder: Path) -> Iterator[Cell]:
    """Yield every arm at every value of the grid; values keep their position in the file for messages."""
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
        before = {key: node.plain for key in _BEFORE if (node := own[key])}
        at = next((_label(node.plain) for node in point.values()), None)
        changes = {str(key): node for key, node in (common | stated | point).items()}
        yield Cell(str(name), at, tune, base=_source(recipe, folder), overrides=changes, **before)


def _label(value: Any) -> Any:
    """Return a value of the grid as tables and conditions name it; a list or mapping as YAML text."""
    return value if isinstance(value, str | int | float | bool | None) else yamlio.inline(value)


def _source(recipe: Node | None, folder: Path) -> Any:
    """Find the recipe of an arm: written in the study, a file relative to the study, or a shipped recipe."""
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
    """Yield problems beyond the schema: unknown arms, incomplete conditions, a grid of several keys."""
    arms = list(text.arms) or [""]

    def unknown(names: list[str], path: tuple) -> Iterator[Problem]:
        """Yield a problem for every name that is no arm of the study."""
        for name in names:
            if text.arms and name.split("/")[0] not in arms:
                fix = did_you_mean(name.split("/")[0], arms) or f"arms: {', '.join(arms)}"
                yield Problem(position(tree, path), dotted(path), f"no arm '{name}'", fix)

    for number, (name, arm) in enumerate(text.arms.items()):
        before = {key: arm[key] for key in _BEFORE if isinstance(arm, dict) and arm.get(key) is not None}
        for key, earlier in before.items():
            path = (_ARMS, name, key)
            if earlier not in arms[:number]:
                fix = f"name one of the arms above it: {', '.join(arms[:number]) or 'there is none'}"
                yield Problem(position(tree, path), dotted(path), f"'{earlier}' is not an earlier arm", fix)
            elif len(before) > 1:
                yield Problem(position(tree, path), dotted(path), "an arm has either", "keep 'after' or 'teacher'")
    for name in text.cannot_learn:
        yield from unknown([name], ("cannot_learn", name))
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
            what = "a condition needs either 'row' or 'compare', and either 'above' or 'below'"
            yield Problem(position(tree, path), dotted(path), what, "give exactly one of each")
        if condition.metric not in text.metrics:
            fix = did_you_mean(condition.metric, text.metrics) or f"add it to metrics: {', '.join(text.metrics)}"
            yield Problem(position(tree, path), dotted(path), f"the metric '{condition.metric}' is not compared", fix)
    if text.against is not None and text.against not in text.metrics:
        fix = did_you_mean(text.against, text.metrics) or f"add it to metrics: {', '.join(text.metrics)}"
        yield Problem(position(tree, ("against",)), "against", f"the metric '{text.against}' is not measured", fix)
    if len(text.grid) > 1:
        yield Problem(position(tree, ("grid",)), "grid", "more than one key", "keep one key; write the others as arms")


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
