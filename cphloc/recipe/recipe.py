"""The recipe: a whole model, its data and its training as data, complete and checked before anything is built.

`load` reads, merges, checks and fills in every default, so that a recipe stored beside weights means the same when a
later version has other defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from cphloc.config import yamlio
from cphloc.config.argument_types import NonNegativeInt, PositiveFloat, PositiveInt, UnitInterval
from cphloc.config.nodes import Node, Position, from_plain
from cphloc.config.problems import problems_of
from cphloc.errors import Problem, RecipeError
from cphloc.recipe.blocks import block_problems, expand_names, fill
from cphloc.recipe.checks import cross_problems
from cphloc.recipe.formats import FIRST, FORMAT, add_former_defaults
from cphloc.recipe.merge import assemble
from cphloc.registry import catalogue
from cphloc.registry.card import Card
from cphloc.registry.kinds import Task
from cphloc.registry.metrics import headline

Dims = Literal[2, 3]
_NAMES_SIDES = ("laterality", "sides")
"""Arguments of data sets by which their classes name a side of the body."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True, allow_inf_nan=False, defer_build=True)


class Block(_Strict):
    """A component with its arguments, written flat: ``{type: fpn, channels: 96}``."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="name of the component")

    @property
    def args(self) -> dict[str, Any]:
        """Arguments by name."""
        return dict(self.model_extra or {})


class Data(Block):
    """Which cases, and how they become training samples. Arguments of the data set stand beside the common fields."""

    root: str | None = Field(None, description="folder of the data set; null looks in CPHLOC_DATA")
    channels: list[str] | None = Field(None, description="image channels in order; null takes all the data set has")
    spacing_mm: list[PositiveFloat] | None = Field(None, description="resample to this, in array order; null: native")
    intensity: str | Block | list[str | Block] = Field("zscore", description="intensity scaling, one or one a channel")
    patch: list[PositiveInt] | None = Field(None, description="size of training patches in voxels; null: whole images")
    fit: Literal["patch", "whole"] = Field("patch", description="cut patches, or scale whole images into the patch")
    augment: list[Block] = Field([], description="augmentations in order")
    foreground: UnitInterval = Field(0.33, description="fraction of patches centred on an object")
    workers: NonNegativeInt | None = Field(None, description="processes that prepare samples; null: at most two")
    tiles: list[PositiveInt] | None = Field(None, description="parts per axis into which val and test images are cut")
    skip_bad: bool = Field(False, description="go on without the cases that cannot be used")

    @property
    def args(self) -> dict[str, Any]:
        """Arguments of the data set itself, without the common fields."""
        return dict(self.model_extra or {})


def _named(heads: Any) -> Any:
    """Refuse one head where heads by name are meant."""
    if isinstance(heads, dict) and isinstance(heads.get("type"), str):
        msg = f"a head without a name; write {{mask: {{type: {heads['type']}, ...}}}} or another name"
        raise ValueError(msg)
    return heads


class ModelBlocks(_Strict):
    """What the model is put together from."""

    backbone: Block = Field(description="turns an image into a pyramid")
    neck: Block | None = Field(None, description="turns a pyramid into a pyramid")
    heads: Annotated[dict[str, Block], BeforeValidator(_named)] = Field(
        description="what the model gives, by name", min_length=1
    )
    weights: dict[str, PositiveFloat] = Field({}, description="weight of each head's loss; 1 where not stated")


class Train(_Strict):
    """How the model is trained."""

    steps: PositiveInt = Field(1000, description="optimizer steps")
    batch: PositiveInt = Field(2, description="samples in a batch")
    optimizer: Block = Field(default_factory=lambda: Block(type="AdamW"), description="optimizer and its arguments")
    schedule: str | Block = Field("poly", description="how the learning rate falls")
    warmup_steps: NonNegativeInt = Field(0, description="steps over which the learning rate rises")
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = Field("auto", description="numbers of training")
    accumulate: PositiveInt = Field(1, description="batches of one optimizer step")
    clip_norm: PositiveFloat | None = Field(12.0, description="largest gradient norm; null: no clipping")
    ema: UnitInterval | None = Field(None, description="decay of the weights' moving average; null: none")
    seed: NonNegativeInt = Field(0, description="seed of every random generator")
    validate_every: PositiveInt | None = Field(None, description="steps between validations; null: ten in a training")
    best: str | None = Field(None, description="metric that chooses the best weights; null: that of the task")
    minutes: PositiveFloat | None = Field(None, description="stop after this time")
    patience: PositiveInt | None = Field(None, description="stop after this many validations without a better one")


def _folder_name(name: str) -> str:
    """Refuse a name that could not be that of a folder of runs."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        msg = "not a name; use A-Z, a-z, 0-9, '_', '.' and '-', and start with a letter or digit"
        raise ValueError(msg)
    return name


class About(_Strict):
    """What only a person can say of the model; publishing asks for it."""

    intended_use: str = Field("", description="who may use it for what")
    limits: list[str] = Field([], description="where it is known to fail, or was never tested")
    changelog: str = Field("", description="what is new in this version")


class Recipe(_Strict):
    """A complete, checked recipe; `load` makes it."""

    format: PositiveInt = Field(FORMAT, description="format of this recipe, which decides what its defaults are")
    name: Annotated[str, AfterValidator(_folder_name)] = Field("recipe", description="by default the file's name")
    description: str = Field("", description="one line for people")
    about: About = Field(default_factory=lambda: About.model_validate({}))
    task: Task = Field(description="what the model is for")
    dims: Dims = Field(description="number of axes of an image")
    data: Data
    model: ModelBlocks
    train: Train = Field(default_factory=lambda: Train.model_validate({}))
    from_: str | None = Field(None, alias="from", description="entry or run whose weights training starts from")
    freeze: list[str] = Field([], description="patterns of parameters that stay as they are")

    _tree: Node | None = PrivateAttr(None)

    def to_yaml(self) -> str:
        """The recipe as canonical YAML: every default written, keys in the order of this file."""
        return yamlio.dump(self.to_plain())

    def to_plain(self) -> dict[str, Any]:
        """The recipe as dicts, lists and scalars, in the order and under the names of YAML."""
        return self.model_dump(by_alias=True)

    @property
    def sha256(self) -> str:
        """Hash of `to_yaml`, in hexadecimal: two recipes that mean the same have the same."""
        import hashlib

        return hashlib.sha256(self.to_yaml().encode()).hexdigest()

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image channels the model takes, in order: those chosen, else all that the data set has."""
        return tuple(self.data.channels or catalogue.channels(self.dataset))

    @property
    def headline(self) -> str:
        """Name of the validation metric that chooses the best weights: ``train.best``, else that of the task."""
        return self.train.best or headline(self.task)

    @property
    def laterality(self) -> bool:
        """Whether a class or label names a side of the body, so that mirroring an image changes its meaning."""
        return self.dataset.laterality or any(self.data.args.get(name) for name in _NAMES_SIDES)

    @property
    def dataset(self) -> Card:
        """The card of the data set."""
        return catalogue.card("dataset", self.data.type)

    @property
    def tree(self) -> Node:
        """The values with the position that wrote each; a default's position says so."""
        return self._tree or from_plain(self.to_plain(), "recipe")


def load(source: str | Path | Mapping[str, Any] | Node | Recipe, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe, check it, and fill in every default.

    Args:
        source: a file, the name of a shipped recipe, plain data, a tree with positions, or a `Recipe`.
        overrides: values by dotted key, such as ``{"train.steps": 10}``; they merge like a child recipe.

    Raises:
        NotFoundError: there is no such file.
        RecipeError: with all problems, each at the file or override that wrote the value.
    """
    if isinstance(source, Recipe):
        if not overrides:
            return source
        source = source.tree
    tree = assemble(source, overrides)
    expand_names(tree)
    name = "recipe" if isinstance(source, Mapping | Node) else Path(source).stem
    tree.children.setdefault("name", Node(name, Position("file name"), Position("file name")))
    newer = tree.get(("format",))
    if newer is not None and isinstance(newer.value, int) and newer.value > FORMAT:
        what, fix = f"recipe format {newer.value} is newer than {FORMAT}", "upgrade: pip install -U cphloc"
        raise RecipeError([Problem(str(newer.where), "format", what, fix)])
    add_former_defaults(tree)
    try:
        Recipe.model_validate(tree.plain)
        problems = []
    except ValidationError as error:
        problems = problems_of(error, Recipe, tree)
    of_blocks = block_problems(tree, Data)
    named = {problem.path for problem in of_blocks}
    problems = [*of_blocks, *(p for p in problems if p.path not in named), *cross_problems(tree)]
    if problems:
        raise RecipeError(_in_order(problems))
    fill(tree, Recipe, Data)
    recipe = Recipe.model_validate(tree.plain)
    recipe._tree = tree
    return recipe


def load_stored(plain: Mapping[str, Any]) -> Recipe:
    """Read a recipe that was stored beside weights: without ``format`` it is of the first.

    Raises:
        RecipeError: with all problems.
    """
    return load({"format": FIRST, **plain})


def _in_order(problems: list[Problem]) -> list[Problem]:
    """By file, line and column, each problem once."""

    def key(problem: Problem) -> tuple[str, int, int]:
        source, *numbers = problem.where.rsplit(":", 2)
        line, column = (int(n) for n in numbers) if len(numbers) == 2 and "".join(numbers).isdigit() else (0, 0)
        return source, line, column

    return sorted(dict.fromkeys(problems), key=key)
