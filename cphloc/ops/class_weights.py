"""Weights of the classes of a mask loss, stated by name, by number, or derived from the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cphloc.config.argument_types import ClassWeighting
from cphloc.errors import InputError, did_you_mean

BACKGROUND = "background"
"""Name of class 0 among class weights."""

MOST = 1e4
"""Largest weight of a class that ``balanced`` gives."""


class ClassWeights(nn.Module):
    """Weights of background and classes; part of a loss, not stored with the model.

    Args:
        stated: weights by class name (1 where not named), a list with the background first, ``balanced``, or ``None``
            for all 1. Names need `set_classes`; ``balanced`` is 1 for all until `set_frequencies`.

    >>> weights = ClassWeights({"lesion": 5})
    >>> weights.set_classes({1: "organ", 2: "lesion"})
    >>> weights.values
    tensor([1., 1., 5.])
    """

    values: Tensor | None

    def __init__(self, stated: ClassWeighting = None) -> None:
        super().__init__()
        self.stated = stated
        listed = None if stated is None or isinstance(stated, str | Mapping) else list(stated)
        tensor = None if listed is None else torch.tensor(listed, dtype=torch.float32)
        self.register_buffer("values", tensor, persistent=False)

    @property
    def balanced(self) -> bool:
        """Whether the weights are to be derived from the data, by `set_frequencies`."""
        return self.stated == "balanced"

    def set_classes(self, classes: Mapping[int, str]) -> None:
        """Look up weights by class name.

        Args:
            classes: foreground classes of the head, number 1..K -> name.

        Raises:
            InputError: there is no class of a name, or the list has another length than 1 + K.
        """
        if isinstance(self.stated, Mapping):
            names = [BACKGROUND, *classes.values()]
            for name in self.stated:
                if name not in names:
                    fix = did_you_mean(name, names) or f"use {', '.join(names)}"
                    msg = f"class_weights: no class '{name}'; {fix}"
                    raise InputError(msg)
            self.values = torch.tensor([float(self.stated.get(name, 1)) for name in names])
        elif self.values is not None and len(self.values) != 1 + len(classes):
            msg = f"class_weights has {len(self.values)} numbers; give one for the background and each class, or names"
            raise InputError(f"{msg}: {1 + len(classes)} in all")

    def set_frequencies(self, frequencies: Sequence[float]) -> None:
        """Weigh each class by ``1 / (classes x frequency)``, as scikit-learn's ``balanced``, at most `MOST`.

        Args:
            frequencies: fraction of the voxels of background and each class; a class without voxels weighs 1.
        """
        share = torch.tensor(list(frequencies), dtype=torch.float32)
        weights = (1 / (len(share) * share.clamp_min(1e-12))).clamp_max(MOST)
        device = None if self.values is None else self.values.device
        self.values = torch.where(share > 0, weights, 1.0).to(device)

    def forward(self) -> Tensor | None:
        """Return the weights ``(1 + K,)``; ``None`` if all are 1.

        Raises:
            InputError: the weights are stated by name, and the names of the classes are not known.
        """
        if isinstance(self.stated, Mapping) and self.values is None:
            msg = "class_weights are stated by name, and this loss is not part of a head; state them as a list"
            raise InputError(msg)
        return self.values
