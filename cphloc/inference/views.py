"""Predict mirrored views of a window, and mirror the results back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cphloc.errors import InputError
from cphloc.modeling.model import Model
from cphloc.ops.targets import Detections, Prediction

if TYPE_CHECKING:
    from cphloc.recipe.recipe import Recipe

Forward = Callable[[Tensor], dict[str, Any]]
"""Computes the outputs of a window by head name: ``Model.outputs``, or a faster backend."""


def mirrored_axes(recipe: Recipe) -> tuple[int, ...]:
    """Return the axes that were flipped in training, along which test-time augmentation mirrors the image.

    Raises:
        InputError: the classes name sides of the body that a mirrored view exchanges, and the recipe does not state
            which; or the model was not trained on mirrored images.
    """
    dims = recipe.dims
    flips = [block.args.get("axes") for block in recipe.data.augment if block.type == "Flip"]
    axes = {axis % dims for flipped in flips for axis in (range(dims) if flipped is None else flipped)}
    if not axes:
        msg = "tta mirrors the image, but this model was trained without Flip; predict without tta"
        raise InputError(msg)
    if recipe.laterality and dims - 1 in axes and not swapped_classes(recipe):
        msg = "tta mirrors the image, but the classes of this model name sides of the body; predict without tta"
        raise InputError(msg)
    return tuple(sorted(axes))


def swapped_classes(recipe: Recipe) -> dict[int, int]:
    """Return the classes that change places in an image mirrored left-right, both ways, by ``Flip``."""
    swaps = [block.args.get("swap") or {} for block in recipe.data.augment if block.type == "Flip"]
    pairs = [(int(a), int(b)) for swap in swaps for a, b in swap.items()]
    return dict(pairs) | {b: a for a, b in pairs}


def predict_views(
    model: Model, forward: Forward, window: Tensor, mirror: Sequence[int], swap: Mapping[int, int] | None = None
) -> dict[str, list[Prediction]]:
    """Predict a window once per combination of flipped axes and flip the results back.

    Args:
        model: decodes the outputs.
        forward: computes the outputs of a window.
        window: ``(N, C, *patch)``, one window or several.
        mirror: axes to flip.
        swap: class -> class with which it changes places in a view that is flipped along the last axis (left-right).

    Returns:
        the predictions by head, one per combination of axes, the unflipped view first.
    """
    patch = tuple(window.shape[2:])
    last = len(patch) - 1
    flips = chain.from_iterable(combinations(mirror, n) for n in range(len(mirror) + 1))
    views: dict[str, list[Prediction]] = {}
    for flip in flips:
        outputs = forward(window.flip([a + 2 for a in flip]) if flip else window)
        for name, prediction in model.decode(outputs, patch).items():
            exchanged = _swapped(prediction, _of_head(model, name, swap)) if swap and last in flip else prediction
            views.setdefault(name, []).append(_unflipped(exchanged, flip, patch))
    return views


def _of_head(model: Model, head: str, swap: Mapping[int, int]) -> Mapping[int, int]:
    """The exchanged classes in the numbers of a head, which may merge some."""
    merging = model.mergings.get(head)
    return swap if merging is None else {merging.table[a]: merging.table[b] for a, b in swap.items()}


def _swapped(prediction: Prediction, swap: Mapping[int, int]) -> Prediction:
    """Exchange classes, such as left and right."""

    def _exchange(scores: Tensor | None, first: int) -> Tensor | None:
        """Reorder the class axis of scores, in which class k is at index ``k - first``."""
        if scores is None:
            return None
        order = [swap.get(index + first, index + first) - first for index in range(scores.shape[1])]
        return scores[:, order]

    detections = prediction.detections
    if detections is not None:
        table = torch.arange(256, device=detections[0].classes.device)
        table[list(swap)] = torch.tensor(list(swap.values()), device=table.device)
        detections = [replace(d, classes=table[d.classes]) for d in detections]
    return replace(
        prediction,
        mask_probabilities=_exchange(prediction.mask_probabilities, 0),
        label_probabilities=_exchange(prediction.label_probabilities, 1),
        detections=detections,
    )


def _unflipped(prediction: Prediction, flip: tuple[int, ...], patch: tuple[int, ...]) -> Prediction:
    """Flip the prediction of a flipped window back along the axes ``flip``."""
    if not flip:
        return prediction

    def _flip_back(maps: Tensor | None, first: int) -> Tensor | None:
        """Flip maps whose first spatial axis is ``first`` back."""
        return None if maps is None else maps.flip([a + first for a in flip])

    detections = prediction.detections
    return Prediction(
        mask_probabilities=_flip_back(prediction.mask_probabilities, 2),
        detections=None if detections is None else [_unflipped_boxes(d, flip, patch) for d in detections],
        attention=_flip_back(prediction.attention, 1),
        label_probabilities=prediction.label_probabilities,
        extra=prediction.extra,
    )


def _unflipped_boxes(detections: Detections, flip: tuple[int, ...], patch: tuple[int, ...]) -> Detections:
    """Mirror boxes of a flipped window, and the masks in them, back along the axes ``flip``."""
    dims = len(patch)
    boxes = detections.boxes.clone()
    for axis in flip:
        boxes[:, axis] = patch[axis] - detections.boxes[:, dims + axis]
        boxes[:, dims + axis] = patch[axis] - detections.boxes[:, axis]
    masks = detections.masks
    return replace(detections, boxes=boxes, masks=None if masks is None else masks.flip([axis + 1 for axis in flip]))
