"""Read a checkpoint of torch in a process of its own: ``python -m cphloc.importing.unpickle IN OUT``.

Only tensors, containers, numbers and texts are built, and scalars of NumPy. Whatever else the pickle asks for is
refused before it is imported. Tensors are written as safetensors, everything else as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import pickletools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

TENSORS, FACTS = "tensors.safetensors", "facts.json"
"""Files that are written: tensors by dotted path, and everything else with null in place of tensors."""

REFUSED = "refused: "
"""Begins the message that lists what a pickle asks for."""

_DEEPEST, _MOST = 50, 1_000_000
"""Largest depth of nested containers, and largest number of values."""

_MOST_BYTES = 8 << 30
"""Largest sum of the tensors; one may state more elements than it stores, by steps of 0."""

_SCALARS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
"""Types of the NumPy scalars that a checkpoint may hold, such as nnU-Net's moving average of the Dice."""


def allowed() -> list[Any]:
    """List the functions and types that a pickle may name besides those of torch; new and former names of NumPy."""
    scalar = np.float64(0).__reduce__()[0]
    names: list[Any] = [np.dtype, *{type(np.dtype(name)) for name in _SCALARS}]
    return [*names, *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core"))]


def read(path: str) -> Any:
    """Read a checkpoint with the restricted unpickler of torch, on the CPU."""
    with torch.serialization.safe_globals(allowed()):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=False)


def asked_for(path: str) -> list[str]:
    """List what a pickle asks for and does not get, without running it: names such as ``os.system``."""
    try:
        with torch.serialization.safe_globals(allowed()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # no zip archive, but one or several pickles
        return sorted(_named(Path(path).read_bytes()))


def _named(content: bytes) -> set[str]:
    """Names of the globals of all pickles in a file, one behind the other as torch formerly wrote them."""
    names, texts, stream = set(), [""], io.BytesIO(content)
    with contextlib.suppress(Exception):  # the names up to the damage, or up to the tensors, are what is wanted
        while True:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    names.add(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.add(".".join(texts[-2:]))
                elif isinstance(argument, str):
                    texts.append(argument)
    return names


class Division:
    """Divides the content of a checkpoint into tensors by dotted path, and everything else as what JSON can hold.

    Args:
        content: mappings, lists, numbers, texts and tensors.

    Raises:
        ValueError: it is nested without end, or holds more than any network.
    """

    def __init__(self, content: Any) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.values, self.bytes = 0, 0
        self.facts = self._fact(content, "", 0)

    def _fact(self, value: Any, path: str, depth: int) -> Any:
        """Return a value for JSON, with ``None`` in place of tensors."""
        self.values += 1
        if depth > _DEEPEST or self.values > _MOST:
            msg = f"{path[:80]}: nested deeper than {_DEEPEST} levels, or more than {_MOST:,} values"
            raise ValueError(msg)
        if isinstance(value, Tensor):
            self._add(value, path)
            return None
        if isinstance(value, Mapping):
            start = f"{path}." if path else ""
            return {str(key): self._fact(one, f"{start}{key}", depth + 1) for key, one in value.items()}
        if isinstance(value, list | tuple | set):
            return [self._fact(one, f"{path}.{number}", depth + 1) for number, one in enumerate(value)]
        if isinstance(value, np.generic):
            value = value.item()
        return value if isinstance(value, str | int | float | bool | None) else str(value)

    def _add(self, value: Tensor, path: str) -> None:
        self.bytes += value.numel() * value.element_size()
        if self.bytes > _MOST_BYTES:
            msg = f"the tensor '{path}' of shape {tuple(value.shape)} makes them more than {_MOST_BYTES:,} bytes"
            raise ValueError(msg)
        self.tensors[path] = value.detach().clone().contiguous()


def main() -> None:
    """Read ``IN`` and write its content to the folder ``OUT``."""
    source, folder = sys.argv[1], Path(sys.argv[2])
    try:
        content = read(source)
    except pickle.UnpicklingError:
        sys.exit(REFUSED + ", ".join(asked_for(source)))
    found = Division(content)
    save_file(found.tensors, folder / TENSORS)
    (folder / FACTS).write_text(json.dumps(found.facts), encoding="utf-8")


if __name__ == "__main__":
    main()
