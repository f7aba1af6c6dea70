"""Read the tensors and facts of a checkpoint of another framework without running anything that it names."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from cphloc.config.json_file import read_json
from cphloc.errors import DataError, NotFoundError
from cphloc.importing.unpickle import FACTS, REFUSED, TENSORS

MOST_BYTES = 4 << 30
"""Largest checkpoint that is read."""

SECONDS = 600
"""Longest time to read a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint.

    Args:
        tensors: by dotted path, such as ``network_weights.encoder.stages.0.weight``.
        facts: everything else, with ``None`` in place of tensors.
    """

    tensors: dict[str, Tensor]
    facts: Any

    def below(self, key: str) -> dict[str, Tensor]:
        """Return the tensors below a key, by the rest of their path."""
        return {
            name.removeprefix(f"{key}."): value for name, value in self.tensors.items() if name.startswith(f"{key}.")
        }

    def network(self) -> dict[str, Tensor]:
        """Return the tensors of the network: those below ``state_dict`` or ``model`` where the checkpoint nests them.

        The names of a network may begin with the same word, such as ``model.0.weight`` in MONAI's UNet.
        """
        nested = [key for key in ("state_dict", "model") if isinstance(self.facts, dict) and self._nests(key)]
        return self.below(nested[0]) if nested else dict(self.tensors)

    def _nests(self, key: str) -> bool:
        return isinstance(self.facts.get(key), dict) and bool(self.below(key))


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint: a ``.safetensors`` file, or a pickle of torch, which a process of its own unpickles.

    Args:
        path: the file.

    Raises:
        NotFoundError: there is no such file.
        DataError: it is no checkpoint, or it asks for more than tensors, containers, numbers and texts.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path}: no such file; give the checkpoint itself"
        raise NotFoundError(msg)
    _check_size(path)
    if path.suffix == ".safetensors":
        return Checkpoint(_tensors(path, path), None)
    with tempfile.TemporaryDirectory() as folder:
        _unpickle(path, folder)
        return Checkpoint(_tensors(Path(folder, TENSORS), path), read_json(Path(folder, FACTS)))


def _check_size(path: Path) -> None:
    """Refuse a file that is too large, or becomes so when it is unpacked."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(member.file_size for member in archive.infolist()))
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            msg = f"{path}: its directory is damaged ({error}); copy or download it again"
            raise DataError(msg) from None
    if size > MOST_BYTES:
        msg = f"{path}: has {size:,} bytes, {MOST_BYTES:,} are the most; import a smaller checkpoint"
        raise DataError(msg)


def _tensors(file: Path, source: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except Exception as error:  # safetensors raises errors of several types for damaged files
        msg = f"{source}: not a safetensors file ({error}); copy or download it again"
        raise DataError(msg) from None


def _unpickle(path: Path, folder: str) -> None:
    """Unpickle in a process of its own, which sees no variables of this one but the search path of modules."""
    kept = ("PATH", "PYTHONPATH", "HOME", "SYSTEMROOT", "TMPDIR", "TEMP", "OMP_NUM_THREADS")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    command = [sys.executable, "-m", "cphloc.importing.unpickle", str(path.absolute()), folder]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        msg = f"{path}: could not be read within {SECONDS} s; copy or download it again"
        raise DataError(msg) from None
    if done.returncode:
        raise DataError(_refusal(path, done.stderr))


def _refusal(path: Path, log: str) -> str:
    """Say why a checkpoint was refused, naming what its pickle asked for."""
    last = (log.strip().splitlines() or ["the process ended without a message"])[-1]
    if last.startswith(REFUSED):
        named = last.removeprefix(REFUSED) or "more than tensors, containers, numbers and texts"
        msg = f"{path}: its pickle asks for {named}, which is not run"
        return f"{msg}; save only the weights where it was made: torch.save(model.state_dict(), FILE)"
    return f"{path}: not a checkpoint that torch can read ({last[:200]}); copy or download it again"
