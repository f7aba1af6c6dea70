"""The recipe: a declarative description of a data set, a model and its training.

`load` reads, merges and checks a recipe and fills in every default, so that a recipe stored with model weights keeps
its meaning when a later version has other defaults.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from cphloc.config import yamlio
from cphloc.config.argument_types import PositiveFloat, PositiveInt
from cphloc.config.nodes import Node, Position, dotted, from_plain, parse_path
from cphloc.config.problems import in_order, problems_of
from cphloc.errors import InputError, Problem, RecipeError
from cphloc.recipe.blocks import BlockAt, block_problems, blocks, expand_names, fill, misspelt_type
from cphloc.recipe.checks import cross_problems
from cphloc.recipe.class_codes import move_class_facts, valid_codes
from cphloc.recipe.fields import About, Data, ModelBlocks, Train, folder_name
from cphloc.recipe.formats import FIRST, FORMAT, add_former_defaults
from cphloc.recipe.lengths import adapt_to_length
from cphloc.recipe.merge import ModelOf, assemble
from cphloc.recipe.stage_checks import stage_problems
from cphloc.recipe.stages import NOT_OF_PIPELINES, PIPELINE, PREPARED_BY_STAGES, EntryOf, Stage, with_entries
from cphloc.recipe.strict import Strict
from cphloc.registry import catalogue
from cphloc.registry.card import Card
from cphloc.registry.kinds import Task
from cphloc.registry.metrics import headline
from cphloc.structures.options import OPTIONS, OptionName
from cphloc.structures.sides import names_sides
from cphloc.structures.units import ChannelInput

Dims = Literal[2, 3]
"""Number of spatial axes."""

_NAMES_SIDES = ("laterality", "sides")
"""Arguments of data sets that make their classes distinguish left from right."""


class Recipe(Strict):
    """A complete and valid recipe; use `load` to create one."""

    format: PositiveInt = Field(FORMAT, description="format version, which determines the defaults")
    name: Annotated[str, AfterValidator(folder_name)] = Field("recipe", description="default: the file name")
    description: str = Field("", description="one-line description")
    about: About = Field(default_factory=lambda: About.model_validate({}))
    task: Literal[Task, "pipeline"] = Field(description="task of the model")
    dims: Dims = Field(description="number of spatial axes of the images")
    data: Data
    model_: ModelBlocks | None = Field(
        None, alias="model", description="the network; null: that of a pipeline's stages"
    )
    stages: dict[str, Stage] = Field({}, description="stages of a pipeline, in the order in which they run")
    train: Train = Field(default_factory=lambda: Train.model_validate({}))
    from_: str | None = Field(None, alias="from", description="zoo entry or run with the initial weights and the model")
    freeze: list[str] = Field([], description="patterns of parameter names that are not trained")
    codes: Annotated[dict[str, str], AfterValidator(valid_codes)] = Field(
        {}, description="code by class name for DICOM SEG: SCT:10200004:Liver; `code` of a class is stored here"
    )

    options: list[OptionName] = Field(
        list(OPTIONS), description="options of predictions to try on validation cases and keep if they gain; []: none"
    )

    nsd_tolerance_mm: dict[str, PositiveFloat] = Field(
        {}, description="tolerance of the surface Dice by class name, in mm; 1 of other classes"
    )

    _tree: Node | None = PrivateAttr(None)

    @model_serializer(mode="wrap")
    def _own_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the stages of a recipe that has none, and of a pipeline what only its stages have."""
        plain = handler(self)
        if self.task != PIPELINE:
            return {key: value for key, value in plain.items() if key != "stages"}
        plain["data"] = {key: value for key, value in plain["data"].items() if key not in PREPARED_BY_STAGES}
        return {key: value for key, value in plain.items() if key not in (*NOT_OF_PIPELINES, "model_")}

    @property
    def model(self) -> ModelBlocks:
        """The components of the model.

        Raises:
            InputError: the recipe is a pipeline, whose stages have models.
        """
        if self.model_ is None:
            msg = f"{self.name}: a pipeline has no network of its own; name one of its stages' entries"
            raise InputError(msg)
        return self.model_

    def with_model(self, model: ModelBlocks) -> Recipe:
        """Return a copy with other components of the model."""
        return self.model_copy(update={"model_": model})

    @functools.cached_property
    def stage_recipes(self) -> dict[str, Recipe]:
        """Recipe of each stage of a pipeline by name; empty for other recipes.

        Raises:
            InputError: the recipe was read without looking up the entries of its stages.
        """
        return {name: load_stored(stage.frozen.recipe) for name, stage in self.stages.items()}

    @property
    def parts(self) -> list[Recipe]:
        """This recipe, and those of the stages of a pipeline."""
        return [self, *self.stage_recipes.values()]

    @property
    def blocks(self) -> list[BlockAt]:
        """Blocks of components of this recipe, and of the stages of a pipeline, outer blocks before nested ones."""
        return [block for part in self.parts for block in blocks(part.tree)]

    @property
    def last(self) -> Recipe:
        """Recipe that determines the result: that of the last stage of a pipeline, else this one."""
        return self.parts[-1]

    def to_yaml(self) -> str:
        """Convert to canonical YAML, with every default and the keys in a fixed order."""
        return yamlio.dump(self.to_plain())

    def to_plain(self) -> dict[str, Any]:
        """Convert to dicts, lists and scalars, with the keys of the YAML file."""
        return self.model_dump(by_alias=True)

    @property
    def sha256(self) -> str:
        """SHA-256 hash of `to_yaml`, in hexadecimal; equal for equivalent recipes."""
        import hashlib

        return hashlib.sha256(self.to_yaml().encode()).hexdigest()

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the model's input channels in order: ``data.channels``, else all channels of the data set."""
        return tuple(self.data.channels or catalogue.channels(self.dataset))

    @property
    def inputs(self) -> dict[str, ChannelInput]:
        """Modality and unit of each input channel: ``data.about`` and ``data.units``, else the data set's card."""
        about = self.data.about
        return catalogue.inputs(self.dataset, self.channels, self.data.units, about.modality if about else ())

    @property
    def headline(self) -> str:
        """Name of the validation metric that selects the best weights: ``train.best``, else that of the task."""
        return self.last.train.best or headline(self.last.task)

    @property
    def plain_intensity(self) -> Any:
        """Intensity scaling as plain values; of a pipeline, that of each stage by name."""
        if self.stages:
            return {name: part.plain_intensity for name, part in self.stage_recipes.items()}
        return self.to_plain()["data"]["intensity"]

    @property
    def fold(self) -> int | None:
        """Number of the fold that is held out, from 1; ``None`` for the splits of the data set."""
        return None if self.data.folds is None else self.data.folds.fold

    @property
    def laterality(self) -> bool:
        """Whether classes distinguish left from right, so that flipping an image along that axis would mislabel it."""
        if self.task == PIPELINE:
            return self.dataset.laterality or any(part.laterality for part in self.stage_recipes.values())
        heads = (block.args.get("classes") or () for block in self.model.heads.values())
        names = [str(n) for stated in heads for n in (stated.values() if isinstance(stated, dict) else stated)]
        for merged in self.model.merged_classes.values():
            names += [n for of in merged.values() for n in (of.values() if isinstance(of, dict) else of)]
        stated = any(self.data.args.get(name) for name in _NAMES_SIDES)
        return self.dataset.laterality or stated or names_sides(names)

    @property
    def dataset(self) -> Card:
        """Registry card of the data set."""
        return catalogue.card("dataset", self.data.type)

    @property
    def tree(self) -> Node:
        """The values as a tree with the source position of each; positions of defaults start with ``default``."""
        return self._tree or from_plain(self.to_plain(), "recipe")


def load(
    source: str | Path | Mapping[str, Any] | Node | Recipe,
    overrides: Mapping[str, Any] | None = None,
    model_of: ModelOf | None = None,
    entry_of: EntryOf | None = None,
) -> Recipe:
    """Read a recipe, check it, and fill in every default.

    Args:
        source: a file, the name of a shipped recipe, a mapping, a tree with source positions, or a `Recipe`.
        overrides: values by dotted key, such as ``{"train.steps": 10}``, merged over the recipe.
        model_of: returns the block ``model`` of the entry or run that ``from`` names, which the recipe inherits.
        entry_of: returns what the entry of a stage states, which a pipeline holds; see `cphloc.recipe.stages`.

    Raises:
        NotFoundError: there is no such file or shipped recipe.
        RecipeError: the recipe is invalid; lists all problems with their source positions.
    """
    if isinstance(source, Recipe):
        if not overrides:
            return source
        source = source.tree
    tree = assemble(source, overrides, model_of)
    for path in (("data", "root"), ("data", "folds", "splits")):
        _locate(tree, path)
    expand_names(tree)
    move_class_facts(tree)
    name = "recipe" if isinstance(source, Mapping | Node) else Path(source).stem
    tree.children.setdefault("name", Node(name, Position("file name"), Position("file name")))
    stated = tree.get(("format",))
    if stated is not None and isinstance(stated.value, int) and stated.value > FORMAT:
        what, fix = f"recipe format {stated.value} is newer than {FORMAT}", "upgrade: pip install -U cphloc"
        raise RecipeError([Problem(str(stated.where), "format", what, fix)])
    add_former_defaults(tree)
    of_entries = with_entries(tree, entry_of)
    adapt_to_length(tree)
    problems = _problems(tree)
    if problems and _without_dropped(tree, problems):
        problems = _problems(tree)
    if problems := [*of_entries, *problems]:
        raise RecipeError(in_order(problems))
    fill(tree, Recipe, Data)
    recipe = Recipe.model_validate(tree.plain)
    recipe._tree = tree
    if all(stage.stored is not None for stage in recipe.stages.values()):
        _ = recipe.stage_recipes  # each is checked as it is read
    return recipe


def _problems(tree: Node) -> list[Problem]:
    """List what is wrong in a recipe."""
    try:
        Recipe.model_validate(tree.plain)
        problems = []
    except ValidationError as error:
        problems = problems_of(error, Recipe, tree)
    of_blocks = block_problems(tree, Data)
    named = {problem.path for problem in of_blocks}
    named |= {dotted((*block.path, "type")) for block in blocks(tree) if misspelt_type(block.node)}
    return [*of_blocks, *(p for p in problems if p.path not in named), *cross_problems(tree), *stage_problems(tree)]


def _without_dropped(tree: Node, problems: list[Problem]) -> bool:
    """Remove nulls that leave out inherited values and are no values of their fields; returns whether there are any."""
    paths = {parse_path(problem.path) for problem in problems if problem.what.startswith("null is not ")}
    dropped = [path for path in paths if (node := tree.get(path)) is not None and node.drops]
    for *parent, key in dropped:
        above = tree.get(tuple(parent))
        assert above is not None
        del above.children[key]
    return bool(dropped)


def _locate(tree: Node, path: tuple[str, ...]) -> None:
    """Make the file or folder at a path of the recipe absolute, in place.

    It is relative to the folder of the file that states it, else to the working folder, as values of ``--set`` are.
    """
    root = tree.get(path)
    if root is None or not isinstance(root.value, str):
        return
    stated, file = Path(root.value).expanduser(), Path(root.where.source)
    beside = file.parent / stated
    if not stated.is_absolute() and file.is_file() and beside.exists():
        root.value = os.path.abspath(beside)


def load_stored(plain: Mapping[str, Any]) -> Recipe:
    """Load a recipe that was stored with model weights; without ``format`` it is of the first format version.

    Raises:
        RecipeError: the recipe is invalid; lists all problems.
    """
    return load({"format": FIRST, **plain})
