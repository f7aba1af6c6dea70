"""A model applied to a whole image of any size: window by window, optionally mirrored, merged into one prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations

import torch
from torch import Tensor

from cphloc.model import Model
from cphloc.ops.layers import fit, resize
from cphloc.ops.sliding_window import Blend, corners, gaussian_weight
from cphloc.ops.weighted_box_clustering import weighted_box_clustering
from cphloc.targets import Detections, Prediction

AGREE_IOU = 0.3
"""Boxes of different views with more than this overlap are one object."""


@torch.inference_mode()
def infer(
    model: Model,
    image: Tensor,
    patch: Sequence[int] | None = None,
    overlap: float = 0.5,
    mirror: Sequence[int] = (),
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Prediction]:
    """Predict one image.

    Masks are the softmax of the mean log-probability over all views, which equals averaging logits, each window
    weighted by a Gaussian around its centre. Boxes of several views are merged by weighted box clustering. An image
    holds what any of its windows holds: label probabilities are the maximum over windows. Attention of a window counts
    with its most probable label.

    Args:
        model: in evaluation mode.
        image: ``(1, C, *S)`` in the model's frame.
        patch: window size per axis; ``None`` takes the whole image at once.
        overlap: share of a window that its neighbour covers too, in [0, 1).
        mirror: axes to flip; every combination is predicted too and averaged (two views per axis). Only axes that
            training flipped as well: a model has learned nothing about others.
        progress: wraps the list of windows, to show a progress bar.

    Returns:
        a `Prediction` per head with N = 1; attention is ``(1, *S)`` and sums to 1.
    """
    size = tuple(image.shape[2:])
    patch = size if patch is None else tuple(patch)
    image = fit(image, [max(n, p) for n, p in zip(size, patch, strict=True)])
    full = tuple(image.shape[2:])
    merging: dict[str, _Merge] = {}
    for corner in progress(corners(full, patch, overlap)):
        window = image[(..., *(slice(c, c + p) for c, p in zip(corner, patch, strict=True)))]
        for name, views in _views(model, window, mirror).items():
            merging.setdefault(name, _Merge(full, patch)).add(corner, views)
    return {name: merge.result(size) for name, merge in merging.items()}


def _views(model: Model, window: Tensor, mirror: Sequence[int]) -> dict[str, list[Prediction]]:
    """Every head's predictions of a window, one per combination of flipped axes, flipped back."""
    patch = tuple(window.shape[2:])
    flips = chain.from_iterable(combinations(mirror, n) for n in range(len(mirror) + 1))
    views: dict[str, list[Prediction]] = {}
    for flip in flips:
        raws = model.raws(window.flip([a + 2 for a in flip]))
        for name, prediction in model.decode(raws, patch).items():
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


@dataclass
class _Merge:
    """One head's views of an image, gathered window by window."""

    full: tuple[int, ...]
    patch: tuple[int, ...]
    masks: Blend | None = None
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
            self.masks = self.masks or Blend(self.full, self.patch)
            logs = [torch.log(v.mask_probabilities[0].clamp(min=1e-12)) for v in views]
            self.masks.add(corner, torch.stack(logs).mean(dim=0))
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

    def result(self, size: tuple[int, ...]) -> Prediction:
        """Prediction of the whole image, cropped to ``size``."""
        masks = None if self.masks is None else fit(self.masks.mean()[None], size).softmax(dim=1)
        attention = self.attention
        if attention is not None:
            attention = attention[tuple(slice(n) for n in size)][None]
            attention = attention / attention.sum().clamp(min=1e-12)
        return Prediction(
            mask_probabilities=masks,
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
