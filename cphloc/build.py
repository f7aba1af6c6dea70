"""From a recipe to a model; the only place where one stage's levels are wired into the next."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cphloc import registry
from cphloc.errors import InputError
from cphloc.levels import Levels
from cphloc.model import Model
from cphloc.recipe import Recipe, load


def build(source: str | Path | Mapping[str, Any] | Recipe, overrides: Mapping[str, Any] | None = None) -> Model:
    """Build the model of a recipe, with fresh weights.

    Args:
        source: a recipe file, the name of a shipped recipe, a mapping, or a `Recipe`.
        overrides: values by dotted key, ``{"model.backbone.widths": [16, 32, 64]}``.

    Raises:
        RecipeError: with every problem of the recipe.

    >>> build("unet3d-hippocampus", {"model.backbone.widths": [4, 8]}).multiple
    (2, 2, 2)
    """
    return build_model(source if isinstance(source, Recipe) and not overrides else load(source, overrides))


def build_model(recipe: Recipe) -> Model:
    """Build the model of a valid recipe: backbone, neck and heads, each told the levels of the stage before."""
    blocks = recipe.model
    backbone = _component("backbone", blocks.backbone, in_channels=len(recipe.channels), dims=recipe.dims)
    neck = _component("neck", blocks.neck, levels=backbone.levels, dims=recipe.dims) if blocks.neck else None
    levels: Levels = (neck or backbone).levels
    heads = {name: _component("head", block, levels=levels, dims=recipe.dims) for name, block in blocks.heads.items()}
    return Model(backbone, neck, heads, blocks.weights)


def _component(kind: str, block: Any, **wired: Any) -> nn.Module:
    """Instantiate a block: its own arguments, nested losses built first, and whatever of ``wired`` it asks for."""
    made = registry.resolve(kind, block.type)
    wanted = inspect.signature(made).parameters
    args = {key: _nested(key, value) for key, value in block.args.items()}
    try:
        return made(**args, **{key: value for key, value in wired.items() if key in wanted})
    except InputError as error:
        msg = f"{kind} '{block.type}': {error}"
        raise InputError(msg) from error


def _nested(key: str, value: Any) -> Any:
    """Build the loss that a head's ``loss`` or ``*_loss`` argument names."""
    if key != "loss" and not key.endswith("_loss"):
        return value
    if isinstance(value, str):
        return registry.resolve("loss", value)()
    if isinstance(value, Mapping):
        args = {name: argument for name, argument in value.items() if name != "type"}
        return registry.resolve("loss", value["type"])(**args)
    return value
