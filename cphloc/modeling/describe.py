"""Summarize the model of a recipe: pyramid levels, receptive fields, parameters, multiply-adds and memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cphloc.errors import InputError
from cphloc.modeling.build import blueprint
from cphloc.modeling.model import Model, levels_of
from cphloc.ops.receptive_field import ReceptiveField, receptive_fields
from cphloc.recipe.recipe import Recipe
from cphloc.structures.levels import Level


@runtime_checkable
class TwoStages(Protocol):
    """Protocol of two-stage heads, which process proposals in ``decode``, such as ``faster_rcnn``."""

    def second_stage(self, outputs: Any) -> None:
        """Run the second stage on the outputs of ``forward``, on any device including meta."""


@dataclass(frozen=True)
class Described:
    """Summary of a model.

    Args:
        levels: ``(stage, level, receptive field per axis)`` for every pyramid level of backbone and neck.
        parameters: number of parameters of ``backbone``, ``neck`` and each head.
        patch: input size ``(*S)`` in voxels for which multiply-adds and memory are given.
        multiply_adds: multiply-add operations to predict one patch, including the second stage of two-stage heads.
        activation_mb: size of the float32 outputs of all layers for one patch, in MB (10^6 bytes), including the second
            stage.
    """

    levels: tuple[tuple[str, Level, tuple[ReceptiveField, ...]], ...]
    parameters: dict[str, int]
    patch: tuple[int, ...]
    multiply_adds: int
    activation_mb: float

    def to_plain(self) -> dict[str, Any]:
        """Convert to JSON-serializable dicts and lists; an unlimited receptive field is ``None``."""
        return {
            "levels": [
                {
                    "stage": stage,
                    "channels": level.channels,
                    "stride": list(level.stride),
                    "receptive_field": [None if math.isinf(f.size) else int(f.size) for f in fields],
                    "cells": list(level.size(self.patch)),
                }
                for stage, level, fields in self.levels
            ],
            "parameters": self.parameters | {"total": sum(self.parameters.values())},
            "patch": list(self.patch),
            "multiply_adds": self.multiply_adds,
            "activation_mb": self.activation_mb,
        }


def describe(recipe: Recipe) -> Described:
    """Summarize the model of a recipe, which is built and run on the meta device.

    Raises:
        InputError: the recipe has no ``data.patch``, which gives the input size.
        BuildError: a component does not fit the one before it.
    """
    if recipe.data.patch is None:
        msg = f"recipe '{recipe.name}' has no data.patch; add one, because multiply-adds and memory depend on it"
        raise InputError(msg)
    model, patch, channels = blueprint(recipe).eval(), tuple(recipe.data.patch), len(recipe.channels)
    image = torch.empty(1, channels, *patch, device="meta")
    with FlopCounterMode(display=False) as flops, torch.no_grad(), _Activations(model) as activations:
        outputs = model.outputs(image)
        for name, head in model.heads.items():
            if isinstance(head, TwoStages):
                head.second_stage(outputs[name])
    parts = {"backbone": model.backbone, "neck": model.neck} | dict(model.heads)
    return Described(
        levels=tuple(_levels(model, channels, patch)),
        parameters={name: _parameters(part) for name, part in parts.items() if part is not None},
        patch=patch,
        multiply_adds=flops.get_total_flops() // 2,
        activation_mb=activations.bytes / 1e6,
    )


def _levels(model: Model, channels: int, patch: tuple[int, ...]) -> list[tuple[str, Level, tuple[ReceptiveField, ...]]]:
    stages = [("backbone", model.backbone, model.backbone)]
    if model.neck is not None:
        stages.append(("neck", model.neck, nn.Sequential(model.backbone, model.neck)))
    return [
        (name, level, fields)
        for name, stage, whole in stages
        for level, fields in zip(levels_of(stage), receptive_fields(whole, channels, patch), strict=True)
        if fields is not None
    ]


def _parameters(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


class _Activations:
    """Context manager that adds up the bytes of the outputs of all leaf modules, as float32."""

    def __init__(self, model: nn.Module) -> None:
        self.bytes = 0
        self.leaves = [module for module in model.modules() if not list(module.children())]

    def __enter__(self) -> _Activations:
        self.hooks = [leaf.register_forward_hook(self._note) for leaf in self.leaves]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _note(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            self.bytes += 4 * output.numel()
