"""Limit the size of a model while it is built, because a recipe of a few bytes can ask for a billion layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from cphloc.errors import InputError

MAX_PARTS = 8_000
"""Largest number of layers, parameters and buffers, three times that of the largest model of timm."""


@contextmanager
def limited(max_elements: int | None = None) -> Iterator[None]:
    """Context manager in which building a model that is too large raises an error, before it takes time and memory.

    Args:
        max_elements: largest number of elements of all parameters and buffers; ``None``: unlimited, for the meta
            device, on which they take no memory.

    Raises:
        InputError: the model has more than `MAX_PARTS` parts, or more elements.
    """
    parts, elements = 0, 0

    def count(module: Any, name: str, added: Any) -> None:
        """Count a layer, parameter or buffer that is added to a module."""
        nonlocal parts, elements
        parts += 1
        if parts > MAX_PARTS:
            msg = f"the model has more than {MAX_PARTS:,} layers and parameters; use fewer or smaller numbers"
            raise InputError(msg)
        elements += added.numel() if hasattr(added, "numel") else 0
        if max_elements is not None and elements > max_elements:
            msg = f"the model has more than {max_elements:,} parameters, which its weights file does not hold"
            raise InputError(msg)

    hooks = [
        register_module_module_registration_hook(count),
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
