"""Read the weights of entries, build models with them, and convert them to half precision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cphloc.errors import DataError, one_line
from cphloc.files import atomic
from cphloc.modeling.build import build_model
from cphloc.modeling.model import Model
from cphloc.recipe.recipe import Recipe

MOST_TENSORS = 20_000
"""Largest number of tensors of a model, five times that of the largest of timm."""
MOST_AXES, MOST_HEADER_BYTES = 16, 20_000_000


def read_weights(content: bytes, source: str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Args:
        content: the file's bytes.
        source: its name, for messages.

    Raises:
        DataError: the bytes are not a safetensors file, or more tensors than any network has.
    """
    try:
        _check_header(content)
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, TypeError, RuntimeError, RecursionError) as error:
        msg = f"{source}: not a safetensors file ({one_line(str(error))[:300]}); download or publish it again"
        raise DataError(msg) from None


def _check_header(content: bytes) -> None:
    """Raise ValueError where the header lists tensors or axes without end, which take seconds and gigabytes."""
    size = int.from_bytes(content[:8], "little")
    if size > len(content):
        return  # safetensors reports it
    header = json.loads(content[8 : 8 + size]) if size <= MOST_HEADER_BYTES else None
    tensors = list(header.values()) if isinstance(header, dict) else []
    if header is None or len(tensors) > MOST_TENSORS:
        msg = f"its header lists more than {MOST_TENSORS:,} tensors"
        raise ValueError(msg)
    if any(len(tensor.get("shape", ())) > MOST_AXES for tensor in tensors if isinstance(tensor, dict)):
        msg = f"a tensor has more than {MOST_AXES} axes"
        raise ValueError(msg)


def write_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file atomically.

    Args:
        path: file to write.
        weights: tensors by name, on the CPU.
        metadata: texts of the header.

    Raises:
        CphlocError: the file cannot be written; an earlier file at ``path`` is unchanged.
    """
    whole = {name: value.contiguous() for name, value in weights.items()}
    with atomic(path) as temporary:
        try:
            safetensors.torch.save_file(whole, temporary, metadata=None if metadata is None else dict(metadata))
        except safetensors.SafetensorError as error:  # among others, a full disk
            raise OSError(str(error)) from None


def half_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights to half precision; a tensor with values beyond its range is kept as it is."""
    small = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    return {name: value if torch.isfinite(value).all() else weights[name] for name, value in small.items()}


def published_precision(recipe: Recipe, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights to the precision in which an entry stores them: half, and of a pipeline that of its stages."""
    return dict(weights) if recipe.stages else half_precision(weights)


def precision_of(weights: Mapping[str, Tensor]) -> Literal["float16", "float32"]:
    """Return the precision in which weights are stored; ``float16`` where any of them is."""
    return "float16" if any(value.dtype == torch.float16 for value in weights.values()) else "float32"


_SPARE = 20_000_000
"""Elements that a model may have while it is built beyond twice those of its weights, such as an unused classifier."""


def build_with_weights(recipe: Recipe, weights: Mapping[str, Tensor], source: str) -> Model:
    """Build a recipe's model with the given weights as float32, skipping its random initialization.

    Raises:
        DataError: the weights are not those of the recipe's model, or not finite as float32.
    """
    stated = sum(value.numel() for value in weights.values())
    with _WithoutInitialization():
        model = build_model(recipe, 2 * stated + _SPARE)
    state = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    _check_finite(state, source)
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        msg = f"{source}: the weights are not those of the recipe's model: {reason}"
        raise DataError(msg) from None
    return model


def _check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights with NaN, infinite or complex values; predictions of the former would read as "nothing found"."""
    wrong = [name for name, value in weights.items() if value.is_complex() or not torch.isfinite(value).all()]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        msg = f"{source}: the weights '{wrong[0]}'{more} are not finite real numbers; train or publish the model again"
        raise DataError(msg)


class _WithoutInitialization(TorchFunctionMode):
    """Skip random initialization, which takes most of the time of a build, because the weights are replaced anyway.

    Unlike building on the meta device this leaves buffers and constants, which no weights file replaces, correct.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        random = getattr(func, "__module__", "") == "torch.nn.init" or func in (Tensor.normal_, Tensor.uniform_)
        target = kwargs.get("tensor", args[0] if args else None)
        if random and isinstance(target, nn.Parameter):
            return target
        return func(*args, **kwargs)
