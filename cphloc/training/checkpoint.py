"""Checkpoints: one safetensors file each, its JSON facts in the header. Nothing is ever pickled.

Tensors and facts share a file so that a machine that dies while writing can never leave weights of one step beside
counters of another. ``last`` holds all a training needs to go on; ``best`` holds the weights to publish and no more.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from cphloc.errors import CphlocError, DataError, NotFoundError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

LAST, BEST = "last.safetensors", "best.safetensors"
_FACTS = "cphloc"


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write ``tensors`` and the JSON-ready ``facts`` to ``path``, wholly or not at all.

    Raises:
        CphlocError: the file cannot be written; what stood at ``path`` before is untouched.
    """
    draft = path.with_name(path.name + ".part")
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    try:
        save_file(whole, draft, metadata={_FACTS: json.dumps(facts)})
        _flush(draft)
        os.replace(draft, path)
    except (OSError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        msg = f"{path}: cannot write the checkpoint ({error}); free some space or choose another folder, then resume"
        raise CphlocError(msg) from error


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ``tensors``, put together from the shards of all processes where they are sharded; called on each of them."""
    return {name: value.full_tensor() if is_sharded(value) else value for name, value in tensors.items()}


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether every process holds a part of ``tensor``; asked without importing all of distributed torch."""
    return hasattr(tensor, "full_tensor")


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """``value`` laid out as ``parameter`` is: in its memory format, or sharded between the same processes."""
    if is_sharded(parameter):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and facts of a checkpoint.

    Raises:
        NotFoundError: no such file.
        DataError: not a checkpoint of cphloc, or a damaged one.
    """
    if not path.is_file():
        msg = f"{path}: no checkpoint here; the training ended before its first one, start it again"
        raise NotFoundError(msg)
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[_FACTS])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        msg = f"{path}: not a complete cphloc checkpoint ({error})"
        raise DataError(msg) from error


def optimizer_state(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's state by parameter name: tensors ``<parameter>/<key>``, and plain numbers likewise.

    Its settings are not part of it: they come from the recipe.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    tensors, numbers = {}, {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{names[parameter]}/{key}"] = value
    return tensors, numbers


def restore_optimizer(
    model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Put back what `optimizer_state` gave, each tensor in the memory layout of its parameter."""
    parameters = dict(model.named_parameters())
    for name_and_key, value in {**numbers, **tensors}.items():
        name, key = name_and_key.rsplit("/", 1)
        parameter = parameters[name]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value = like(value, parameter)
        optimizer.state[parameter][key] = value


def check_space(folder: Path, model: nn.Module) -> None:
    """Make sure before training that ``folder`` can be written and holds the checkpoints to come.

    Raises:
        CphlocError: it cannot, or the disk is too full.
    """
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    # last (weights, average, two moments), its draft, and best
    needed = 9 * weights + 16 * 2**20
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        msg = f"{folder}: cannot write here ({error.strerror}); choose another folder"
        raise CphlocError(msg) from error
    if free < needed:
        msg = f"{folder}: {free / 2**20:.0f} MB free but the checkpoints need {needed / 2**20:.0f} MB; free some space"
        raise CphlocError(msg)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
