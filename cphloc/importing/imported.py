"""What an importer hands over: the recipe, the weights and what is known of their origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from cphloc.errors import InputError


@dataclass(frozen=True)
class Imported:
    """A model of another framework in our terms.

    Args:
        framework: the framework, as its package is called, such as ``nnunetv2``.
        architecture: class of the network there.
        recipe: complete but for licence and citation, see `cphloc.recipe.recipe.Recipe`.
        weights: tensors by our names, one mapping for each network of an ensemble.
        source: file or folder that was imported, for the proof.
        options: what predictions apply, see `cphloc.structures.options.Options`.
        training_cases: number of cases of the training; 0 where the source does not state it.
        remarks: limits of the import, one sentence each, for the card.
    """

    framework: str
    architecture: str
    recipe: Mapping[str, Any]
    weights: Sequence[Mapping[str, Tensor]]
    source: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    training_cases: int = 0
    remarks: tuple[str, ...] = ()


def unsupported(source: object, what: str, why: str) -> InputError:
    """Return the error for what an entry cannot express: it is named, not ignored."""
    return InputError(f"{source}: {what} cannot be imported: {why}")
