"""Warnings about valid recipes that are probably not what the user intends, one function each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import nn

from cphloc.errors import Problem
from cphloc.modeling.build import blueprint
from cphloc.modeling.model import Model
from cphloc.modeling.problems import problem_at
from cphloc.ops.receptive_field import receptive_fields
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue

Advice = Callable[[Recipe, Model], Iterator[Problem]]
_ADVICE: list[Advice] = []

FEW_VALUES = 16
"""Minimum number of values per channel for reliable batch norm statistics."""


def advice(recipe: Recipe) -> list[Problem]:
    """Return warnings about a valid recipe; its model is built on the meta device, without memory for weights.

    Raises:
        BuildError: a component does not fit the one before it.
    """
    model = blueprint(recipe)
    return [problem for check in _ADVICE for problem in check(recipe, model)]


def _advice(function: Advice) -> Advice:
    _ADVICE.append(function)
    return function


@_advice
def _sees_whole_objects(recipe: Recipe, model: Model) -> Iterator[Problem]:
    size = _object_voxels(recipe, "median")
    if size is None or recipe.data.patch is None:
        return
    field = receptive_fields(model.backbone, len(recipe.channels), recipe.data.patch)[-1]
    if field is not None and any(f.size < s for f, s in zip(field, size, strict=True)):
        seen = " x ".join("all" if math.isinf(f.size) else str(int(f.size)) for f in field)
        what = f"its receptive field is {seen} voxels, and half of the objects are larger than {_times(size)}"
        yield problem_at(recipe, ("model", "backbone"), what, "add stages or strides if the context is needed")


@_advice
def _patch_is_a_multiple_of_the_stride(recipe: Recipe, model: Model) -> Iterator[Problem]:
    patch = recipe.data.patch or []
    padded = [-(-n // m) * m for n, m in zip(patch, model.multiple, strict=bool(patch))]
    if padded != patch:
        what = f"{patch} is not a multiple of the model's stride {list(model.multiple)}, and is padded to {padded}"
        yield problem_at(recipe, ("data", "patch"), what, f"use {padded}, which takes the same time and memory")


@_advice
def _cells_are_finer_than_objects(recipe: Recipe, model: Model) -> Iterator[Problem]:
    size = _object_voxels(recipe, "small")
    finest = model.levels[0].stride
    if size is None or all(cell <= s for cell, s in zip(finest, size, strict=True)):
        return
    for name, block in recipe.model.heads.items():
        if catalogue.card("head", block.type).rung == "boxes":
            what = f"objects of {_times(size)} voxels, and the finest level has cells of {_times(finest)}"
            yield problem_at(recipe, ("model", "heads", name), what, "use a backbone or neck with a finer level")


@_advice
def _pretrained_stem_fits(recipe: Recipe, model: Model) -> Iterator[Problem]:
    stated, channels = recipe.model.backbone.args, len(recipe.channels)
    if (stated.get("pretrained") or stated.get("weights")) and channels != 3:
        what = f"pretrained on RGB images, and these images have {channels} channel{'s' if channels > 1 else ''}"
        yield problem_at(recipe, ("model", "backbone"), what, "nothing: its first kernels are adapted automatically")


@_advice
def _batch_statistics_have_enough_values(recipe: Recipe, model: Model) -> Iterator[Problem]:
    batch_norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if recipe.data.patch is None or not any(isinstance(layer, batch_norms) for layer in model.modules()):
        return
    values = recipe.train.batch * min(math.prod(level.size(tuple(recipe.data.patch))) for level in model.levels)
    if values < FEW_VALUES:
        what = f"batch norm over only {values} values at the coarsest level"
        yield problem_at(recipe, ("train", "batch"), what, "use a larger batch or patch, or norm: instance")


def _object_voxels(recipe: Recipe, which: str) -> list[float] | None:
    """Edge lengths of ``small`` or ``median`` objects in voxels after resampling; ``None`` if they are not known."""
    size, spacing = recipe.dataset.object_size, recipe.data.spacing_mm
    if size is None or recipe.data.fit == "whole":
        return None
    edges = getattr(size, which)
    if recipe.dims == 2:
        return edges
    return None if spacing is None else [edge / s for edge, s in zip(edges, spacing, strict=True)]


def _times(values: list[float] | tuple[int, ...]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
