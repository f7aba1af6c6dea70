"""The systems that are compared, each with its own defaults; each is imported when it is used."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

from ..data import Cases, Predict


class System(Protocol):
    """Train on the training cases of a task for a number of steps."""

    def prepare(self, cases: Cases, folder: Path) -> None:
        """Convert the data to the form that the system reads, once for all budgets; not counted as training."""
        ...

    def train(self, cases: Cases, steps: int, seed: int, folder: Path) -> tuple[Predict, int]:
        """Train, with a schedule that ends at ``steps``; returns the trained system and its number of parameters."""
        ...


SYSTEMS = {
    "cphloc": ("planned", "Planned", ()),
    "nnunet 3d_fullres": ("nnunet", "NnUnet", ("3d_fullres",)),
    "nnunet 2d": ("nnunet", "NnUnet", ("2d",)),
    "smp unet": ("smp", "SmpUnet", ()),
    "torchvision retinanet": ("torchvision", "Detector", ("retinanet",)),
    "torchvision fasterrcnn": ("torchvision", "Detector", ("fasterrcnn",)),
}
"""Name -> module, class and arguments."""


def make(name: str) -> System:
    """Construct a system by its name."""
    module, kind, arguments = SYSTEMS[name]
    return getattr(importlib.import_module(f".{module}", __package__), kind)(*arguments)
