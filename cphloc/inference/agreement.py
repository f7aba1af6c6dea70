"""How far the outputs of two runtimes of a model agree: their largest difference, and the Dice of their masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from cphloc.modeling.model import Model


def difference(outputs: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """Return the largest deviation, relative to the largest magnitude of an output (at least 1); 0 without outputs."""
    from torch.utils._pytree import tree_leaves

    pairs = zip(tree_leaves(dict(outputs)), tree_leaves(dict(expected)), strict=True)
    return max((float((o - e).detach().abs().max() / e.detach().abs().max().clamp(min=1)) for o, e in pairs), default=0)


def masks(model: Model, outputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the masks ``(K, *S)`` of every mask head by name, bool, of the first image of a batch.

    Args:
        model: the model of the outputs.
        outputs: of every head, by name.
    """
    from torch.nn.functional import one_hot

    from cphloc.ops.mask_head import MaskHead

    found = {}
    for name, head in model.heads.items():
        if isinstance(head, MaskHead):
            probabilities = head.decode(outputs[name]).mask_probabilities
            assert probabilities is not None
            (classes, *_), first = probabilities.shape[1:], probabilities[0]
            labels = one_hot(first.argmax(dim=0), classes).movedim(-1, 0)[1:].bool()
            found[name] = first[1::2] > 0.5 if head.scores == "sigmoid" else labels
    return found


def mean_dice(found: Tensor, expected: Tensor) -> float:
    """Return the mean Dice of the classes that either of two masks ``(K, *S)`` has; 1 where both are empty.

    >>> import torch
    >>> a, b = torch.tensor([[True, True, False]]), torch.tensor([[True, False, False]])
    >>> round(mean_dice(a, b), 3)
    0.667
    """
    sizes = found.flatten(1).sum(1) + expected.flatten(1).sum(1)
    both = (found & expected).flatten(1).sum(1)
    present = sizes > 0
    return float((2 * both[present] / sizes[present]).mean()) if bool(present.any()) else 1.0
