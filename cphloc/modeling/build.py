"""Build the model of a recipe, passing the pyramid levels of each stage to the next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from cphloc.errors import InputError, MissingExtraError, Problem
from cphloc.modeling.classes import class_problems, known_classes, mergings, model_classes
from cphloc.modeling.ensemble import EnsembleModel
from cphloc.modeling.limits import limited
from cphloc.modeling.model import Model, levels_of
from cphloc.modeling.problems import problem_at
from cphloc.modeling.staged import StagedModel
from cphloc.ops.class_weights import ClassWeights
from cphloc.ops.seeds import Seeds
from cphloc.recipe.fields import Block
from cphloc.recipe.recipe import Recipe, load
from cphloc.registry import catalogue
from cphloc.registry.contract import ContractError, construct

_STARTING_WEIGHTS = ("pretrained", "weights")
"""Arguments of backbones that load or download weights; `blueprint` leaves them out."""


class BuildError(InputError):
    """A component rejects its arguments or the levels of the stage before; ``path`` is its path in the recipe."""

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        super().__init__(f"{'.'.join(path)}: {message}")
        self.path = path
        self.message = message


def build(source: str | Path | Mapping[str, Any] | Recipe, overrides: Mapping[str, Any] | None = None) -> Model:
    """Build the model of a recipe, with random weights unless the backbone is pretrained.

    Args:
        source: a recipe file, the name of a shipped recipe, a mapping, or a `Recipe`.
        overrides: values by dotted key, such as ``{"model.backbone.widths": [16, 32, 64]}``.

    Raises:
        RecipeError: the recipe is invalid; lists all problems.
        BuildError: a component does not fit the one before it.

    >>> build("unet3d-hippocampus", {"model.backbone.widths": [4, 8]}).multiple
    (2, 2, 2)
    """
    return build_model(load(source, overrides))


def build_model(recipe: Recipe, max_elements: int | None = None) -> Model:
    """Build the model of a valid recipe: backbone, neck and heads; of a pipeline, those of all stages.

    Args:
        recipe: the recipe.
        max_elements: largest number of elements of all parameters and buffers; default: unlimited.

    Raises:
        BuildError: a component does not fit the one before it, or the model is too large to be built.
    """
    with limited(max_elements):
        if recipe.stages:
            return StagedModel({name: build_model(part) for name, part in recipe.stage_recipes.items()})
        members = [_built(recipe) for _ in range(recipe.model.members)]
    return members[0] if len(members) == 1 else EnsembleModel(members, recipe.model.average)


def _built(recipe: Recipe) -> Model:
    blocks, dims = recipe.model, recipe.dims
    backbone = build_backbone(recipe)
    neck = blocks.neck and _component("neck", blocks.neck, ("model", "neck"), levels=levels_of(backbone), dims=dims)
    levels = levels_of(backbone if neck is None else neck)
    heads = {
        name: _component("head", block, ("model", "heads", name), levels=levels, dims=dims)
        for name, block in blocks.heads.items()
    }
    for name, head in heads.items():
        _set_classes(head, ("model", "heads", name))
    merged = mergings(recipe)
    classes = model_classes(recipe, next(iter(merged.values())).dataset) if merged else None
    seeds = {
        name: Seeds(each.head, each.above, each.below, each.after, each.weight) for name, each in blocks.seeds.items()
    }
    return Model(backbone, neck, heads, blocks.weights, merged, classes, seeds)


def build_backbone(recipe: Recipe) -> nn.Module:
    """Build the backbone of a valid recipe, with pretrained weights if it states any."""
    wired = {"in_channels": len(recipe.channels), "dims": recipe.dims}
    return _component("backbone", recipe.model.backbone, ("model", "backbone"), **wired)


def check(recipe: Recipe, classes: Mapping[int, str] | None = None) -> list[Problem]:
    """Check that the components of a recipe fit together, with a forward pass on the meta device.

    Args:
        recipe: the recipe to check.
        classes: classes of the data set, number 1..K -> name; by default those of `known_classes`.

    Returns:
        the problems with their positions in the recipe; empty if there are none.
    """
    known = classes or known_classes(recipe)
    wrong = [] if known is None else class_problems(recipe, known)
    if wrong and recipe.model.merged_classes:
        return wrong  # the model cannot be built without knowing which classes are merged
    try:
        model = blueprint(recipe)
    except BuildError as error:
        return [*wrong, problem_at(recipe, error.path, error.message, "change this block, or the one before it")]
    patch = recipe.data.patch
    if patch is None:
        return wrong
    return wrong + _check_forward(recipe, model, patch)


def blueprint(recipe: Recipe) -> Model:
    """Build the model of a recipe on the meta device, without memory for weights; no weights are loaded.

    Raises:
        BuildError: a component does not fit the one before it.
    """
    if recipe.stages:
        return StagedModel({name: blueprint(part) for name, part in recipe.stage_recipes.items()})
    backbone = recipe.model.backbone
    stated = {key: value for key, value in backbone.args.items() if key not in _STARTING_WEIGHTS}
    blocks = recipe.model.model_copy(update={"backbone": Block(type=backbone.type, **stated)})
    with torch.device("meta"):
        return build_model(recipe.with_model(blocks))


def _check_forward(recipe: Recipe, model: Model, patch: list[int]) -> list[Problem]:
    try:
        model.train().outputs(torch.empty(recipe.train.batch, len(recipe.channels), *patch, device="meta"))
    except (RuntimeError, ValueError, TypeError, OverflowError, ArithmeticError) as error:
        what = f"the forward pass fails for a patch of {patch}: {str(error).splitlines()[0]}"
        return [problem_at(recipe, ("data", "patch"), what, "use a larger patch or a smaller stride")]
    return []


def _component(kind: str, block: Block, path: tuple[str, ...], **wired: Any) -> nn.Module:
    """Construct the component of a block from its arguments and those of ``wired`` that it takes."""
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
    except (RuntimeError, TypeError, OverflowError, MemoryError, ArithmeticError) as error:  # of absurd sizes
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise BuildError(path, f"{kind} '{block.type}' cannot be built: {reason}") from error


def _set_classes(head: nn.Module, path: tuple[str, ...]) -> None:
    """Pass the classes of a head to its losses, whose class weights may be stated by name."""
    for module in head.modules():
        if isinstance(module, ClassWeights):
            try:
                module.set_classes(cast(Any, head).classes)
            except InputError as error:
                raise BuildError(path, str(error)) from error


def _nested(kind: str | None, value: Any) -> Any:
    """Build the nested component of an argument, such as a head's loss; other values are returned unchanged."""
    if kind is None or not isinstance(value, Mapping):
        return value
    args = {name: argument for name, argument in value.items() if name != "type"}
    return construct(kind, value["type"], args)
