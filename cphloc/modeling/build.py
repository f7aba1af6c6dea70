"""From a recipe to a model; the only place where one stage's levels are wired into the next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cphloc.errors import InputError, MissingExtraError, Problem
from cphloc.modeling.classes import class_problems, known_classes
from cphloc.modeling.model import Model, levels_of
from cphloc.modeling.problems import problem_at
from cphloc.recipe.recipe import Block, Recipe, load
from cphloc.registry import catalogue
from cphloc.registry.contract import ContractError, construct

_STARTING_WEIGHTS = ("pretrained", "weights")
"""Arguments of backbones that would read or fetch weights; a check leaves them out."""


class BuildError(InputError):
    """A component refuses its arguments or the levels it is given; ``path`` is its place in the recipe."""

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        super().__init__(f"{'.'.join(path)}: {message}")
        self.path = path
        self.message = message


def build(source: str | Path | Mapping[str, Any] | Recipe, overrides: Mapping[str, Any] | None = None) -> Model:
    """Build the model of a recipe, with fresh weights.

    Args:
        source: a recipe file, the name of a shipped recipe, a mapping, or a `Recipe`.
        overrides: values by dotted key, ``{"model.backbone.widths": [16, 32, 64]}``.

    Raises:
        RecipeError: with every problem of the recipe.
        BuildError: a component does not fit the one before it.

    >>> build("unet3d-hippocampus", {"model.backbone.widths": [4, 8]}).multiple
    (2, 2, 2)
    """
    return build_model(load(source, overrides))


def build_model(recipe: Recipe) -> Model:
    """Build the model of a valid recipe: backbone, neck and heads, each told the levels of the stage before."""
    blocks, dims = recipe.model, recipe.dims
    backbone = build_backbone(recipe)
    neck = blocks.neck and _component("neck", blocks.neck, ("model", "neck"), levels=levels_of(backbone), dims=dims)
    levels = levels_of(backbone if neck is None else neck)
    heads = {
        name: _component("head", block, ("model", "heads", name), levels=levels, dims=dims)
        for name, block in blocks.heads.items()
    }
    return Model(backbone, neck, heads, blocks.weights)


def build_backbone(recipe: Recipe) -> nn.Module:
    """Build the backbone of a valid recipe, with the weights that it starts from."""
    wired = {"in_channels": len(recipe.channels), "dims": recipe.dims}
    return _component("backbone", recipe.model.backbone, ("model", "backbone"), **wired)


def check(recipe: Recipe, classes: Mapping[int, str] | None = None) -> list[Problem]:
    """Build the model without any memory for weights and push an empty training batch through it.

    Args:
        recipe: what to check.
        classes: those of the data set, number -> name; by default as far as `known_classes` knows them.

    Returns:
        what does not fit, at the line of the recipe that says it; nothing where everything does.
    """
    known = classes or known_classes(recipe)
    wrong = [] if known is None else class_problems(recipe, known)
    try:
        model = blueprint(recipe)
    except BuildError as error:
        return [*wrong, problem_at(recipe, error.path, error.message, "change this block, or the one before it")]
    patch = recipe.data.patch
    if patch is None:
        return wrong
    return wrong + _check_forward(recipe, model, patch)


def blueprint(recipe: Recipe) -> Model:
    """The model of a recipe on the meta device: shapes without memory, and nothing read or fetched."""
    backbone = recipe.model.backbone
    stated = {key: value for key, value in backbone.args.items() if key not in _STARTING_WEIGHTS}
    blocks = recipe.model.model_copy(update={"backbone": Block(type=backbone.type, **stated)})
    with torch.device("meta"):
        return build_model(recipe.model_copy(update={"model": blocks}))


def _check_forward(recipe: Recipe, model: Model, patch: list[int]) -> list[Problem]:
    try:
        model.train().outputs(torch.empty(recipe.train.batch, len(recipe.channels), *patch, device="meta"))
    except (RuntimeError, ValueError) as error:
        what = f"a patch of {patch} does not go through: {str(error).splitlines()[0]}"
        return [problem_at(recipe, ("data", "patch"), what, "use a larger patch or a smaller stride")]
    return []


def _component(kind: str, block: Block, path: tuple[str, ...], **wired: Any) -> nn.Module:
    """Construct a block: its own arguments, nested components built first, and whatever of ``wired`` it asks for."""
    try:
        kinds = {a.name: a.component for a in catalogue.arguments(catalogue.card(kind, block.type))}
        args = {key: _nested(kinds.get(key), value) for key, value in block.args.items()}
        return construct(kind, block.type, args, **wired)
    except ContractError as error:
        raise BuildError(path, str(error)) from error
    except MissingExtraError:
        raise
    except InputError as error:
        raise BuildError(path, f"{kind} '{block.type}': {error}") from error


def _nested(kind: str | None, value: Any) -> Any:
    """Build the component that an argument's block names, such as a head's loss; other values stay as they are."""
    if kind is None or not isinstance(value, Mapping):
        return value
    args = {name: argument for name, argument in value.items() if name != "type"}
    return construct(kind, value["type"], args)
