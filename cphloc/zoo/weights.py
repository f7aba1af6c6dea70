"""Weights of entries: read, put into a model, stored in half precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cphloc.errors import DataError
from cphloc.modeling.build import build_model
from cphloc.modeling.model import Model
from cphloc.recipe.recipe import Recipe


def read_weights(content: bytes, source: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        DataError: it is not one.
    """
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        msg = f"{source}: not a safetensors file ({error}); download or publish it again"
        raise DataError(msg) from None


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in half precision; a tensor with values beyond its range stays as it is."""
    small = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    return {name: value if torch.isfinite(value).all() else weights[name] for name, value in small.items()}


def model_of(recipe: Recipe, weights: Mapping[str, Tensor], source: str) -> Model:
    """A recipe's model with these weights, as float32; its own initialization is skipped.

    Raises:
        DataError: the weights are not those of the recipe's model.
    """
    with _WithoutInitialization():
        model = build_model(recipe)
    state = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        msg = f"{source}: the weights are not those of the recipe's model: {str(error).replace(chr(10), ' ')}"
        raise DataError(msg) from None
    return model


class _WithoutInitialization(TorchFunctionMode):
    """Leave parameters as they are allocated: drawing random weights is most of a build's time, and they get replaced.

    Unlike building on the meta device this leaves buffers and constants, which no weights file replaces, correct.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        random = getattr(func, "__module__", "") == "torch.nn.init" or func in (Tensor.normal_, Tensor.uniform_)
        target = kwargs.get("tensor", args[0] if args else None)
        if random and isinstance(target, nn.Parameter):
            return target
        return func(*args, **kwargs)
