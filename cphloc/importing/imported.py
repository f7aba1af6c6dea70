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
        prove_with: further arguments of the script of the framework in ``cphloc/importing/provers``.
    """

    framework: str
    architecture: str
    recipe: Mapping[str, Any]
    weights: Sequence[Mapping[str, Tensor]]
    source: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    training_cases: int = 0
    remarks: tuple[str, ...] = ()
    prove_with: tuple[str, ...] = ()


def unsupported(source: object, what: str, why: str) -> InputError:
    """Return the error for what an entry cannot express: it is named, not ignored."""
    return InputError(f"{source}: {what} cannot be imported: {why}")


def own_data(classes: Mapping[int, str], channels: Sequence[str]) -> dict[str, Any]:
    """Return the beginning of section ``data`` for images of which only classes and channels are known."""
    return {"type": "image_folder", "classes": dict(classes), "channels": list(channels)}


def class_names(given: Sequence[str] | None, outputs: int, source: object) -> tuple[dict[int, str], bool]:
    """Return the classes of a mask by number, and whether each output is a class of its own.

    Args:
        given: names; one fewer than the outputs if the first output is the background.
        outputs: number of outputs of the network.
        source: file, for the message.

    Raises:
        InputError: another number of names.

    >>> class_names(["liver", "tumour"], 3, "model.pt")
    ({1: 'liver', 2: 'tumour'}, False)
    """
    if not given or len(given) not in (outputs - 1, outputs):
        few = f"{outputs - 1} if the first output is the background, or " if outputs > 1 else ""
        msg = f"{source}: the network has {outputs} outputs; name the classes with --classes: {few}{outputs} if each "
        raise InputError(f"{msg}output is a class of its own")
    return dict(enumerate(given, start=1)), len(given) == outputs
