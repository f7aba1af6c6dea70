"""The systems that are compared, each with its own defaults; each is imported when it is used."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..data import Cases, Predict


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Args:
        predict: the trained system.
        parameters: number of parameters.
        batch: images or patches per step.
    """

    predict: Predict
    parameters: int
    batch: int


class System(Protocol):
    """Train on the training cases of a task for a number of steps."""

    def prepare(self, cases: Cases, folder: Path) -> None:
        """Convert the data to the form that the system reads, once for all budgets; not counted as training."""
        ...

    def train(self, cases: Cases, steps: int, seed: int, folder: Path) -> Trained:
        """Train, with a schedule that ends at ``steps``; the last weights are used, whatever their validation."""
        ...


SYSTEMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cphloc": ("planned", "Planned", {}),
    "cphloc pretrained": ("planned", "Planned", {"preset": "pretrained"}),
    "cphloc width 24": ("planned", "Planned", {"width": 24}),
    "cphloc width 32": ("planned", "Planned", {"width": 32}),
    "nnunet 3d_fullres": ("nnunet", "NnUnet", {"configuration": "3d_fullres"}),
    "nnunet 2d": ("nnunet", "NnUnet", {"configuration": "2d"}),
    "smp unet": ("smp", "SmpUnet", {}),
    "torchvision retinanet": ("torchvision", "Detector", {"kind": "retinanet"}),
    "torchvision fasterrcnn": ("torchvision", "Detector", {"kind": "fasterrcnn"}),
}
"""Name -> module, class and arguments."""


def make(name: str) -> System:
    """Construct a system by its name."""
    module, kind, arguments = SYSTEMS[name]
    return getattr(importlib.import_module(f".{module}", __package__), kind)(**arguments)
