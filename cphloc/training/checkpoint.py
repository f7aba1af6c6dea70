"""Save and load checkpoints as safetensors files, with JSON metadata in the header; pickle is never used.

Tensors and metadata are in one file, written atomically, so that a crash cannot leave weights of one step with
counters of another. ``last.safetensors`` holds the complete training state, to resume from; ``best.safetensors`` holds
only the weights of the best validation.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from cphloc.config import jsonio
from cphloc.errors import CphlocError, DataError, NotFoundError
from cphloc.zoo.weights import write_weights

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

LAST, BEST = "last.safetensors", "best.safetensors"
_FACTS = "cphloc"


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: to a temporary file that then replaces ``path``.

    Args:
        path: checkpoint file.
        tensors: tensors by name, on any device.
        facts: JSON-serializable metadata.

    Raises:
        CphlocError: the file cannot be written; an earlier file at ``path`` is unchanged.
    """
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_weights(path, whole, {_FACTS: jsonio.dumps(facts)})


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gather sharded tensors (`DTensor`) from all processes into full tensors; every process must call it."""
    return {name: value.full_tensor() if is_sharded(value) else value for name, value in tensors.items()}


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Return whether ``tensor`` is a `DTensor`, without importing `torch.distributed.tensor`."""
    return hasattr(tensor, "full_tensor")


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return ``value`` in the memory format of ``parameter``, or sharded across processes as ``parameter`` is."""
    if is_sharded(parameter):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Returns:
        tensors by name, on the CPU, and the JSON metadata given to `save`.

    Raises:
        NotFoundError: the file does not exist.
        DataError: the file is damaged or not a checkpoint of cphloc.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _facts(file)  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        msg = f"{path}: no checkpoint here; the training ended before it saved one, start a new one"
        raise NotFoundError(msg)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        msg = f"{path}: not a complete cphloc checkpoint ({error})"
        raise DataError(msg) from error


def read_facts(path: Path) -> dict[str, Any]:
    """Read the JSON metadata of a checkpoint without its tensors; errors as of `load`."""
    with _opened(path) as file:
        return _facts(file)


def optimizer_state(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the per-parameter state of an optimizer, such as Adam's moments, under parameter names.

    Hyperparameters such as the learning rate are not included; they come from the recipe.

    Returns:
        tensors and plain numbers, two dicts, each with keys ``<parameter>/<state key>``.
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
    """Restore the state returned by `optimizer_state`, each tensor in the memory layout of its parameter."""
    parameters = dict(model.named_parameters())
    for name_and_key, value in {**numbers, **tensors}.items():
        name, key = name_and_key.rsplit("/", 1)
        parameter = parameters[name]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value = like(value, parameter)
        optimizer.state[parameter][key] = value


def check_space(folder: Path, model: nn.Module) -> None:
    """Check that ``folder`` is writable and has enough free disk space for the checkpoints of ``model``.

    Raises:
        CphlocError: the folder is not writable, or there is too little free space.
    """
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    # last (weights, EMA and two Adam moments: 4), its temporary copy (4) and best (1)
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


def _facts(file: Any) -> dict[str, Any]:
    return json.loads((file.metadata() or {})[_FACTS])
