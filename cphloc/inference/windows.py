"""A model applied to a whole image of any size: window by window, optionally mirrored, merged into one prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor

from cphloc.modeling.model import Model
from cphloc.ops.layers import fit, resize
from cphloc.ops.sliding_window import Blend, corners, gaussian_weight, steps
from cphloc.ops.targets import Detections, Prediction
from cphloc.ops.weighted_box_clustering import weighted_box_clustering

AGREE_IOU = 0.3
"""Boxes of different views with more than this overlap are one object."""

LOG_LEAST = math.log(1e-12)
"""Logarithm of the least probability; more certain than that is nobody."""

Forward = Callable[[Tensor], dict[str, Any]]
"""Computes the outputs of a window by head name: ``Model.outputs``, or a faster backend."""

Emit = Callable[[str, int, Tensor], None]
"""Takes rows of a mask as soon as they are final: head, first row, log-probabilities up to a constant per voxel
``(K + 1, rows, *S[1:])``, which are overwritten afterwards."""


@dataclass(frozen=True)
class Air:
    """Where there is nothing but air nothing is computed: its voxels are background.

    Args:
        channel: of the image.
        limit: a voxel whose value in that channel is at most this is air.
    """

    channel: int
    limit: float

    def around(self, slab: Tensor, patch: Sequence[int]) -> list[tuple[int, int]]:
        """First and one past the last voxel, per axis but the first, of a box that holds all but air.

        Args:
            slab: ``(1, C, rows, *S)``.
            patch: the box is at least this large along ``S``.

        Returns:
            an empty list where there is only air.
        """
        body = (slab[0, self.channel] > self.limit).any(dim=0)
        if not body.any():
            return []
        box = []
        for axis, (n, p) in enumerate(zip(body.shape, patch, strict=True)):
            inside = body.movedim(axis, 0).flatten(1).any(dim=1) if body.dim() > 1 else body
            first, last = inside.nonzero()[[0, -1], 0].tolist()
            first = max(0, min(first, (first + last + 1 - p) // 2, n - p))
            box.append((first, max(last + 1, first + p)))
        return box

    def fills(self, window: Tensor) -> bool:
        """Whether there is nothing else in ``(1, C, *patch)``."""
        return bool(window[0, self.channel].amax() <= self.limit)


@torch.inference_mode()
def infer(
    model: Model,
    image: Tensor,
    patch: Sequence[int] | None = None,
    overlap: float = 0.5,
    mirror: Sequence[int] = (),
    progress: Callable[[Iterable], Iterable] = iter,
    *,
    forward: Forward | None = None,
    air: Air | None = None,
    emit: Emit | None = None,
) -> dict[str, Prediction]:
    """Predict one image.

    Masks are the softmax of the mean log-probability over all views, which equals averaging logits, each window
    weighted by a Gaussian around its centre. Boxes of several views are merged by weighted box clustering. An image
    holds what any of its windows holds: label probabilities are the maximum over windows. Attention of a window counts
    with its most probable label.

    With ``emit``, a mask takes memory for the rows of one window only, however many rows (slices) the image has:
    ``4 (K + 2) patch[0] prod(S[1:])`` bytes.

    Args:
        model: in evaluation mode.
        image: ``(1, C, *S)`` in the model's frame; a tensor, or anything with a ``shape`` that gives a tensor for
            ``image[:, :, first:stop]``.
        patch: window size per axis; ``None`` takes the whole image at once. An image that is smaller is edge-padded at
            the far end, as large as the model was trained on: its norms see the padding too.
        overlap: share of a window that its neighbour covers too, in [0, 1).
        mirror: axes to flip; every combination is predicted too and averaged (two views per axis). Only axes that
            training flipped as well: a model has learned nothing about others.
        progress: wraps each list of windows that begin at the same row, to show a progress bar.
        forward: computes the outputs of a window; default ``model.outputs``.
        air: lay windows around the body only and leave out those of nothing but air, unless the whole image is air.
        emit: takes the masks; predictions then hold none.

    Returns:
        a `Prediction` per head with N = 1; attention is ``(1, *S)`` and sums to 1.
    """
    size = tuple(image.shape[2:])
    patch = size if patch is None else tuple(patch)
    full = tuple(max(n, p) for n, p in zip(size, patch, strict=True))
    device = next(model.parameters()).device
    merging: dict[str, _Merge] = {}
    for row in steps(full[0], patch[0], overlap):
        slab = fit(image[:, :, row : row + patch[0]].to(device), (patch[0], *full[1:]))
        for corner in progress(_corners(slab, patch[1:], overlap, air)):
            window = slab[(..., slice(None), *(slice(c, c + p) for c, p in zip(corner, patch[1:], strict=True)))]
            if air is not None and air.fills(window):
                continue
            for name, views in _views(model, forward or model.outputs, window, mirror).items():
                if name not in merging:
                    merging[name] = _Merge(size, full, patch, partial(emit, name) if emit else None)
                merging[name].add((row, *corner), views)
    if not merging:
        return infer(model, image, patch, overlap, mirror, progress, forward=forward, emit=emit)
    return {name: merge.result() for name, merge in merging.items()}


def _corners(slab: Tensor, patch: tuple[int, ...], overlap: float, air: Air | None) -> list[tuple[int, ...]]:
    """First voxels of the windows of a slab along all axes but the first: as many as its body needs."""
    box = [(0, n) for n in slab.shape[3:]] if air is None else air.around(slab, patch)
    if not box and patch:
        return []
    inside = corners(tuple(stop - first for first, stop in box), patch, overlap)
    return [tuple(c + first for c, (first, _) in zip(corner, box, strict=True)) for corner in inside]


def _views(model: Model, forward: Forward, window: Tensor, mirror: Sequence[int]) -> dict[str, list[Prediction]]:
    """Every head's predictions of a window, one per combination of flipped axes, flipped back."""
    patch = tuple(window.shape[2:])
    flips = chain.from_iterable(combinations(mirror, n) for n in range(len(mirror) + 1))
    views: dict[str, list[Prediction]] = {}
    for flip in flips:
        outputs = forward(window.flip([a + 2 for a in flip]) if flip else window)
        for name, prediction in model.decode(outputs, patch).items():
            views.setdefault(name, []).append(_unflipped(prediction, flip, patch))
    return views


def _unflipped(prediction: Prediction, flip: tuple[int, ...], patch: tuple[int, ...]) -> Prediction:
    if not flip:
        return prediction

    def back(maps: Tensor | None, first: int) -> Tensor | None:
        return None if maps is None else maps.flip([a + first for a in flip])

    found = prediction.detections
    return Prediction(
        mask_probabilities=back(prediction.mask_probabilities, 2),
        detections=None if found is None else [_unflipped_boxes(d, flip, patch) for d in found],
        attention=back(prediction.attention, 1),
        label_probabilities=prediction.label_probabilities,
        extra=prediction.extra,
    )


def _unflipped_boxes(found: Detections, flip: tuple[int, ...], patch: tuple[int, ...]) -> Detections:
    dims = len(patch)
    boxes = found.boxes.clone()
    for axis in flip:
        boxes[:, axis] = patch[axis] - found.boxes[:, dims + axis]
        boxes[:, dims + axis] = patch[axis] - found.boxes[:, axis]
    return Detections(boxes, found.scores, found.classes)


def _log(probabilities: Tensor) -> Tensor:
    return probabilities.float().log().clamp_(min=LOG_LEAST)


@dataclass
class _Merge:
    """One head's views of an image, gathered window by window."""

    size: tuple[int, ...]
    full: tuple[int, ...]
    patch: tuple[int, ...]
    emit: Callable[[int, Tensor], None] | None = None
    masks: Blend | None = None
    probabilities: list[Tensor] = field(default_factory=list)
    attention: Tensor | None = None
    labels: list[Tensor] = field(default_factory=list)
    extras: dict[str, list[Tensor]] = field(default_factory=dict)
    found: list[tuple[Detections, Tensor]] = field(default_factory=list)
    views: int = 0
    corners: list[tuple[int, ...]] = field(default_factory=list)

    def add(self, corner: tuple[int, ...], views: list[Prediction]) -> None:
        """Take in the views of the window at ``corner``."""
        self.corners.append(corner)
        self.views = len(views)
        first = views[0]
        if first.mask_probabilities is not None:
            logs = reduce(torch.add, (_log(v.mask_probabilities[0]) for v in views))
            logs = logs.div_(len(views)) if len(views) > 1 else logs
            self.masks = self.masks or Blend(len(logs), self.full, self.patch, logs.device)
            self._take_rows(corner[0])
            self.masks.add(corner, logs)
        present = torch.ones(())
        if first.label_probabilities is not None:
            probabilities = torch.stack([v.label_probabilities[0] for v in views]).mean(dim=0)
            self.labels.append(probabilities)
            present = probabilities.max().clamp(min=1e-6)  # what is nowhere still has a likeliest place
        if first.attention is not None:
            self._attend(corner, torch.stack([v.attention[0] for v in views]).mean(dim=0) * present)
        for key in first.extra:
            self.extras.setdefault(key, []).append(torch.stack([v.extra[key][0] for v in views]).mean(dim=0))
        for view in views if first.detections is not None else ():
            shifted = view.detections[0].boxes + torch.tensor(corner * 2, device=view.detections[0].boxes.device)
            found = Detections(shifted, view.detections[0].scores, view.detections[0].classes)
            self.found.append((found, self._trust(view.detections[0].boxes)))

    def _take_rows(self, stop: int) -> None:
        """Hand on the rows of the mask before ``stop``; where no window has been, they are background."""
        for row, mean, seen in self.masks.rows(stop):
            mean[0].masked_fill_(~seen, -LOG_LEAST)  # all classes are 0 there
            within = mean[(slice(None), slice(max(self.size[0] - row, 0)), *(slice(n) for n in self.size[1:]))]
            if self.emit is not None:
                self.emit(row, within)
            else:
                self.probabilities.append(within.softmax(dim=0))

    def _attend(self, corner: tuple[int, ...], attention: Tensor) -> None:
        if self.attention is None:
            self.attention = torch.zeros(self.full, device=attention.device)
        window = tuple(slice(c, c + p) for c, p in zip(corner, self.patch, strict=True))
        spread = resize(attention[None, None].float(), self.patch)[0, 0]
        self.attention[window] += spread * (attention.sum() / spread.sum().clamp(min=1e-12))

    def _trust(self, boxes: Tensor) -> Tensor:
        """Weight of boxes of one window by the nearness of their centres to the window's."""
        dims = len(self.patch)
        centres = ((boxes[:, :dims] + boxes[:, dims:]) / 2).long()
        index = tuple(centres[:, a].clamp(0, p - 1) for a, p in enumerate(self.patch))
        return gaussian_weight(self.patch).to(boxes.device)[index]

    def result(self) -> Prediction:
        """Prediction of the whole image."""
        if self.masks is not None:
            self._take_rows(self.full[0])
        attention = self.attention
        if attention is not None:
            attention = attention[tuple(slice(n) for n in self.size)][None]
            attention = attention / attention.sum().clamp(min=1e-12)
        return Prediction(
            mask_probabilities=torch.cat(self.probabilities, dim=1)[None] if self.probabilities else None,
            detections=[self._merged_boxes()] if self.found else None,
            attention=attention,
            label_probabilities=torch.stack(self.labels).amax(dim=0)[None] if self.labels else None,
            extra={key: torch.stack(values).amax(dim=0)[None] for key, values in self.extras.items()},
        )

    def _merged_boxes(self) -> Detections:
        if len(self.found) == 1:
            return self.found[0][0]
        boxes = torch.cat([found.boxes for found, _ in self.found])
        scores = torch.cat([found.scores for found, _ in self.found])
        classes = torch.cat([found.classes for found, _ in self.found])
        trust = torch.cat([weight for _, weight in self.found])
        return weighted_box_clustering(boxes, scores, classes, self._covering(boxes), trust, AGREE_IOU)

    def _covering(self, boxes: Tensor) -> Tensor:
        """Number of views that cover the centre of each box."""
        dims = len(self.patch)
        centres = (boxes[:, :dims] + boxes[:, dims:]) / 2
        first = torch.tensor(self.corners, device=boxes.device)[:, None]
        inside = (centres >= first) & (centres < first + torch.tensor(self.patch, device=boxes.device))
        return inside.all(dim=-1).sum(dim=0) * self.views
